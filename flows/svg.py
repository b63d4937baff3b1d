"""Pictures for Prefect's UI: SVG documents that need nothing outside them."""

import base64
from collections.abc import Sequence

from markupsafe import Markup

from views.report.charts import FLAT, bar_chart

# The report's light colors; the UI shows a picture on a light or a dark page.
COLORS = ("#1f7a6d", "#5667c4", "#b4518b", "#9a7b1d", "#3a86b7", "#7a5c45")
TEXT_COLOR, LINE_COLOR, LIGHT_COLOR = "#5c666b", "#9aa4a8", "#e1e5e4"
STYLE = (
    f"svg{{{';'.join(f'--series-{index}:{color}' for index, color in enumerate(COLORS))}}}"
    f".chart text,.legend{{font:12px sans-serif;fill:{TEXT_COLOR}}}"
    f".grid{{stroke:{LIGHT_COLOR}}}.base{{stroke:{TEXT_COLOR};opacity:.6}}"
    ".curve{fill:none;stroke-width:2.2;stroke-linejoin:round}"
    f".kept{{fill:{COLORS[0]}}}.value{{text-anchor:middle}}"
)


def svg_document(body: str, width: float, height: float, style: str = STYLE) -> str:
    """Return a document with a white background."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}"><style>{style}</style>'
        f'<rect class="page" width="100%" height="100%" style="fill:#fff;stroke:none"/>{body}</svg>'
    )


def data_url(svg: str) -> str:
    """Encode a document as a URL that an ``<img>`` can show."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def nest(chart: Markup, width: int, height: int, *, y: int = 0) -> str:
    """Return a chart of the report as a part of a document."""
    return str(chart).replace("<svg ", f'<svg y="{y}" width="{width}" height="{height}" ', 1)


def funnel_svg(stages: Sequence[tuple[str, int]]) -> str:
    """Draw the documents after each stage as bars."""
    width, height = FLAT
    chart = bar_chart(stages, title="Documents after each stage")
    return svg_document(nest(chart, width, height), width, height)
