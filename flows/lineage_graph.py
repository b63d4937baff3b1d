"""The data sets of a run as a picture: a row per stage, lines to those that each was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from flows.svg import COLORS, LINE_COLOR, TEXT_COLOR, svg_document

MAX_COLUMNS = 5  # a page has room for so many data sets side by side; the table has all
NODE_WIDTH, NODE_HEIGHT = 128, 38
GAP_X, GAP_Y, MARGIN = 14, 26, 8
MAX_LABEL_CHARS = 18  # that fit into a box
STYLE = (
    f"text{{font:12px sans-serif;fill:#24292c}}.note{{font-size:10px;fill:{TEXT_COLOR}}}"
    f"rect{{stroke:{COLORS[0]};stroke-width:1.4;fill:#dcefea}}"
    f".cached{{stroke:{LINE_COLOR};fill:#f3f5f5}}path{{fill:none;stroke:{LINE_COLOR}}}"
)


@dataclass(frozen=True)
class Node:
    """A data set.

    Attributes:
        label: unique; the first line.
        note: the second line.
        stage: nodes of a stage are side by side.
        inputs: labels of nodes; other names are left out.
        cached: drawn in gray.
    """

    label: str
    note: str
    stage: str
    inputs: Sequence[str]
    cached: bool


def lineage_svg(nodes: Sequence[Node]) -> str | None:
    """Draw data sets and what they were made from, as an SVG document.

    Args:
        nodes: in the order of the pipeline.

    Returns:
        The picture; ``None`` if it would be too wide to be read, or empty.
    """
    rows: dict[str, list[Node]] = {}
    for node in nodes:
        rows.setdefault(node.stage, []).append(node)
    columns = max(map(len, rows.values()), default=0)
    if not 0 < columns <= MAX_COLUMNS:
        return None
    width = 2 * MARGIN + columns * (NODE_WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + len(rows) * (NODE_HEIGHT + GAP_Y) - GAP_Y
    corners: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows.values()):
        top = MARGIN + number * (NODE_HEIGHT + GAP_Y)
        for node, left in zip(row, _place_row(row, corners, width), strict=True):
            corners[node.label] = (left, top)
    lines = [
        _draw_line(corners[name], corners[node.label])
        for node in nodes
        for name in node.inputs
        if name in corners
    ]
    boxes = [_draw_node(node, corners) for node in nodes]
    return svg_document("".join(lines + boxes), width, height, STYLE)


def _place_row(
    row: Sequence[Node], corners: Mapping[str, tuple[float, float]], width: float
) -> Sequence[float]:
    """Return the left edge of each node: below its only input, or else evenly spaced."""
    inputs = [[corners[name][0] for name in node.inputs if name in corners] for node in row]
    below = {edges[0] for edges in inputs if len(edges) == 1}
    if len(below) == len(row):
        return [edges[0] for edges in inputs]
    left = (width - len(row) * (NODE_WIDTH + GAP_X) + GAP_X) / 2
    return [left + column * (NODE_WIDTH + GAP_X) for column in range(len(row))]


def _draw_line(start: tuple[float, float], end: tuple[float, float]) -> str:
    x0, y0 = start[0] + NODE_WIDTH / 2, start[1] + NODE_HEIGHT
    x1, y1 = end[0] + NODE_WIDTH / 2, end[1]
    middle = (y0 + y1) / 2
    return f'<path d="M{x0:g},{y0:g} C{x0:g},{middle:g} {x1:g},{middle:g} {x1:g},{y1:g}"/>'


def _draw_node(node: Node, corners: Mapping[str, tuple[float, float]]) -> str:
    x, y = corners[node.label]
    kind = "cached" if node.cached else "new"
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="4"/>'
        f'<text x="{x + 8:g}" y="{y + 16:g}">{escape(_shorten(node.label))}</text>'
        f'<text class="note" x="{x + 8:g}" y="{y + 30:g}">{escape(node.note)}</text>'
    )


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_LABEL_CHARS else f"{text[: MAX_LABEL_CHARS - 1]}…"
