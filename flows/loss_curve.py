"""The loss curve of a training run as a self-contained SVG image, for Prefect's UI."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from views.report.charts import WIDE, Line, line_chart

# The report's light colors; the UI shows the image on a light or a dark page.
COLORS = ("#1f7a6d", "#5667c4", "#b4518b", "#9a7b1d", "#3a86b7", "#7a5c45")
STYLE = (
    ".chart text,.legend{font:12px sans-serif;fill:#5c666b}"
    ".grid{stroke:#e1e5e4}.base{stroke:#5c666b;opacity:.6}"
    ".curve{fill:none;stroke-width:2.2;stroke-linejoin:round}"
)
LEGEND_COLUMNS, LEGEND_COLUMN_WIDTH, LEGEND_ROW_HEIGHT = 3, 130, 26


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
    legend_height = LEGEND_ROW_HEIGHT * -(-len(names) // LEGEND_COLUMNS)
    height = chart_height + legend_height
    legend = ""
    for index, name in enumerate(names):
        row, column = divmod(index, LEGEND_COLUMNS)
        x, y = 48 + LEGEND_COLUMN_WIDTH * column, 8 + LEGEND_ROW_HEIGHT * row
        legend += (
            f'<rect x="{x}" y="{y}" width="10" height="10" fill="{COLORS[index % len(COLORS)]}"/>'
            f'<text class="legend" x="{x + 15}" y="{y + 9}">{escape(name.replace("_", " "))}</text>'
        )
    lines = [Line(name, series[name], color=index) for index, name in enumerate(names)]
    nested = f'<svg y="{legend_height}" width="{chart_width}" height="{chart_height}" '
    chart = str(line_chart(lines, title=title)).replace("<svg ", nested, 1)
    variables = ";".join(f"--series-{index}:{color}" for index, color in enumerate(COLORS))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{chart_width}" height="{height}" '
        f'viewBox="0 0 {chart_width} {height}"><style>svg{{{variables}}}{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{legend}{chart}</svg>'
    )


def data_url(svg: str) -> str:
    """Encode an SVG document as a URL that an ``<img>`` can show."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
