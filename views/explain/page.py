"""Write an explanation as one HTML page without other files."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from lm.interpret.explain import Explanation, TextExplanation
from views.report.embedding_plot import PLOT, Place, place_points
from views.report.heatmap import heatmap
from views.report.token_colors import token_colors

MAX_MAP_TOKENS = 64  # names beside the pictures are readable up to about this


def render_page(explanation: Explanation) -> str:
    """Return the page as HTML text."""
    environment = Environment(
        loader=PackageLoader("views.explain", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "token_colors": token_colors,
        "plot_size": PLOT,
        "heatmap": heatmap,
        "scatter": scatter,
        "max_map_tokens": MAX_MAP_TOKENS,
    }
    return environment.get_template("page.html").render(explanation=explanation)


def scatter(texts: Sequence[TextExplanation]) -> list[Place]:
    """Return each distinct token of the texts and its place in the picture of embeddings."""
    pairs = [pair for text in texts for pair in zip(text.tokens, text.points, strict=True)]
    return place_points(pairs)
