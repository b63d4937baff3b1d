"""The loss curve of a training run as a self-contained SVG image, for Prefect's UI."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from views.report.charts import WIDE, Line, line_chart

LEGEND_HEIGHT = 26
# The report's light colors; the UI shows the image on a light or a dark page.
COLORS = ("#1f7a6d", "#5667c4", "#b4518b", "#9a7b1d")
STYLE = (
    ".chart text,.legend{font:12px sans-serif;fill:#5c666b}"
    ".grid{stroke:#e1e5e4}.base{stroke:#5c666b;opacity:.6}"
    ".curve{fill:none;stroke-width:2.2;stroke-linejoin:round}"
)


def loss_curve_svg(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw curves over training steps, with a legend.

    Args:
        title: what a screen reader reads.
        series: (step, loss) pairs by name; loss in nats per token.

    Returns:
        An SVG document without references to anything outside it.
    """
    names = sorted(series)
    lines = [Line(name, series[name], color=index) for index, name in enumerate(names)]
    width, height = WIDE[0], WIDE[1] + LEGEND_HEIGHT
    variables = ";".join(f"--series-{index}:{color}" for index, color in enumerate(COLORS))
    legend = "".join(
        f'<rect x="{48 + 130 * index}" y="8" width="10" height="10" fill="{COLORS[index]}"/>'
        f'<text class="legend" x="{63 + 130 * index}" y="17">{escape(name.replace("_", " "))}</text>'
        for index, name in enumerate(names)
    )
    chart = line_chart(lines, title=title)
    size = f'<svg y="{LEGEND_HEIGHT}" width="{WIDE[0]}" height="{WIDE[1]}" '
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><style>svg{{{variables}}}{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{legend}'
        f"{str(chart).replace('<svg ', size, 1)}</svg>"
    )


def data_url(svg: str) -> str:
    """Encode an SVG document as a URL that an ``<img>`` can show."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
