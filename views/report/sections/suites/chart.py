"""A chart of values with intervals: a row for each domain, a dot and a bar for each model."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from views.report.charts import N_COLORS, nice_ticks
from views.report.formatting import format_tick

WIDTH, LABELS, RIGHT, TOP, AXIS = 480, 130, 12, 8, 22
LINE, GAP = 12, 8  # height of a model's line, and between domains


@dataclass(frozen=True)
class Interval:
    """A model's value.

    Attributes:
        name: of the model.
        value: the dot.
        low: where the bar begins.
        high: where it ends.
    """

    name: str
    value: float
    low: float
    high: float


def interval_chart(rows: Sequence[tuple[str, Sequence[Interval | None]]], *, title: str) -> Markup:
    """Draw values with their intervals.

    Args:
        rows: title of each domain, and the models' values, in the order of the page's colors.
        title: read by a screen reader.
    """
    shown = [item for _, items in rows for item in items if item is not None]
    if not shown:
        return Markup("")
    ticks = nice_ticks(min(item.low for item in shown), max(item.high for item in shown))
    left, right = ticks[0], ticks[-1]
    scale = (WIDTH - LABELS - RIGHT) / (right - left)

    def x(value: float) -> float:
        return LABELS + (value - left) * scale

    body, top = [], float(TOP)
    for domain, items in rows:
        height = LINE * len(items)
        body.append(
            f'<text class="tick" x="{LABELS - 8}" y="{top + height / 2 + 4:.1f}" text-anchor="end">'
            f"{escape(domain.replace('_', ' '))}</text>"
        )
        for number, item in enumerate(items):
            if item is None:
                continue
            y = top + LINE * (number + 0.5)
            color = f"var(--series-{number % N_COLORS})"
            label = f"{item.name}: {item.value:.3f} ({item.low:.3f} to {item.high:.3f})"
            body.append(
                f'<g><title>{escape(label)}</title><line x1="{x(item.low):.1f}" x2="{x(item.high):.1f}" '
                f'y1="{y:.1f}" y2="{y:.1f}" style="stroke:{color};stroke-width:2"/>'
                f'<circle cx="{x(item.value):.1f}" cy="{y:.1f}" r="3.5" style="fill:{color}"/></g>'
            )
        top += height + GAP
    axis = "".join(
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{top:.1f}"/>'
        f'<text class="tick" x="{x(tick):.1f}" y="{top + 14:.1f}" text-anchor="middle">'
        f"{escape(format_tick(tick))}</text>"
        for tick in ticks
    )
    return Markup(  # noqa: S704 - labels are escaped
        f'<svg class="chart" viewBox="0 0 {WIDTH} {top + AXIS:.0f}" role="img" aria-label="{escape(title)}">'
        f"{axis}{''.join(body)}</svg>"
    )
