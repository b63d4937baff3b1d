"""The loss curve of a training run as a self-contained SVG image, for Prefect's UI."""

from collections.abc import Mapping, Sequence
from html import escape

from flows.svg import COLORS, nest, svg_document
from views.report.charts import LEFT, WIDE, Line, line_chart

LEGEND_ROW_HEIGHT, MAX_LEGEND_COLUMNS = 26, 3
CHAR_WIDTH, SQUARE_WIDTH = 7, 25  # of the legend's text, about; of a colored square with its gaps


def loss_curve_svg(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw curves over training steps, with a legend.

    Args:
        title: what a screen reader reads.
        series: (step, loss) pairs by name; loss in nats per token. Colors repeat after six.

    Returns:
        An SVG document without references to anything outside it.
    """
    names = sorted(series)
    chart_width, chart_height = WIDE
    column_width = SQUARE_WIDTH + CHAR_WIDTH * max(map(len, names), default=0)
    columns = min(MAX_LEGEND_COLUMNS, max(1, (chart_width - LEFT) // column_width))
    column_width = max(column_width, (chart_width - LEFT) // columns)
    legend_height = LEGEND_ROW_HEIGHT * -(-len(names) // columns)
    height = chart_height + legend_height
    legend = ""
    for index, name in enumerate(names):
        row, column = divmod(index, columns)
        x, y = LEFT + column_width * column, 8 + LEGEND_ROW_HEIGHT * row
        legend += (
            f'<rect x="{x}" y="{y}" width="10" height="10" fill="{COLORS[index % len(COLORS)]}"/>'
            f'<text class="legend" x="{x + 15}" y="{y + 9}">{escape(name.replace("_", " "))}</text>'
        )
    lines = [Line(name, series[name], color=index) for index, name in enumerate(names)]
    chart = nest(line_chart(lines, title=title), chart_width, chart_height, y=legend_height)
    return svg_document(legend + chart, chart_width, height)
