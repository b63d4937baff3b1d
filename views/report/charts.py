"""Draw small charts as inline SVG: lines, bars and histograms. Colors are CSS variables.

A chart is drawn about as wide as it will be shown, so that its 12-unit text is readable both at
half or a third of the page's width and on a phone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from views.report.formatting import format_int, format_tick

WIDE, SMALL, FLAT = (480, 270), (320, 150), (440, 170)  # width and height
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 14, 22
TICKS = 5
MAX_POINTS = 400  # of a line; about as many as the chart has pixels
MARGIN = 0.06  # fraction of the range of values, left free above and below them
ZERO_SNAP_FRACTION = 0.1  # an axis that would start below this fraction of its end starts at 0
N_COLORS = 6  # the page defines --series-0 to --series-5


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: shown in the legend.
        points: (x, y), ascending in x; values that are not finite are left out.
        color: index of the page's series colors.
        faint: thin and light, for a noisy curve behind a clear one.
        dots: whether to mark the points.
    """

    name: str
    points: Sequence[tuple[float, float]]
    color: int = 0
    faint: bool = False
    dots: bool = False


def nice_ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Return round numbers that cover ``[low, high]``: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def integer_ticks(max_value: int, count: int) -> list[float]:
    """Return whole numbers from 0 to at least ``max_value``."""
    return [tick for tick in nice_ticks(0, max(1, max_value), count) if tick == round(tick)]


def downsample(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most ``MAX_POINTS`` evenly spaced finite points and the last one."""
    good = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    stride = max(1, math.ceil(len(good) / MAX_POINTS))
    kept = good[::stride]
    if good and kept[-1] != good[-1]:
        kept.append(good[-1])
    return kept


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    size: tuple[int, int] = WIDE,
    from_zero: bool = False,
    thresholds: Sequence[float] = (),
) -> Markup:
    """Draw curves over a common x axis; return an empty string if there is no point.

    Args:
        lines: drawn in this order, faint ones first.
        title: read by a screen reader.
        size: `WIDE` or `SMALL`.
        from_zero: whether the y axis starts at 0, as it should for rates and fractions.
        thresholds: values of x that are marked by a dashed line.
    """
    drawn = [(line, downsample(line.points)) for line in lines]
    drawn = [(line, points) for line, points in drawn if points]
    if not drawn:
        return Markup("")
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    left, right = min(xs), max(xs)
    left = 0.0 if 0 < left < ZERO_SNAP_FRACTION * right else left
    low = 0.0 if from_zero else min(ys)
    gap = (max(ys) - low or abs(max(ys)) or 1.0) * MARGIN
    frame = _Frame(left, right, low if from_zero else low - gap, max(ys) + gap, size)
    count = TICKS if size == WIDE else TICKS - 1
    x_ticks = [tick for tick in nice_ticks(left, right, count) if left <= tick <= right]
    y_ticks = [t for t in nice_ticks(frame.y0, frame.y1) if frame.y0 <= t <= frame.y1]
    body = [_axes(frame, x_ticks, y_ticks)]
    for line, points in sorted(drawn, key=lambda item: not item[0].faint):
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
        style = f"stroke:var(--series-{line.color % N_COLORS})"
        kind = "faint" if line.faint else "curve"
        body.append(f'<polyline class="{kind}" style="{style}" points="{path}"/>')
        if (line.dots and len(points) <= 60) or len(points) == 1:
            fill = f"fill:var(--series-{line.color % N_COLORS})"
            body.append(
                "".join(
                    f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.2" style="{fill}"/>'
                    for x, y in points
                )
            )
    body += [_threshold_line(frame, threshold) for threshold in thresholds]
    return _svg(title, body, size)


@dataclass(frozen=True)
class Point:
    """A dot.

    Attributes:
        name: shown when the pointer is on it.
        x: above 0.
        y: its height.
        color: index of the page's series colors.
    """

    name: str
    x: float
    y: float
    color: int = 0


@dataclass(frozen=True)
class Band:
    """A curve with the range around it; all over the same ascending x, above 0."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    color: int = 0


def scatter_chart(
    points: Sequence[Point],
    *,
    title: str,
    bands: Sequence[Band] = (),
    levels: Sequence[tuple[str, float]] = (),
    size: tuple[int, int] = WIDE,
) -> Markup:
    """Draw dots over a logarithmic x axis; return an empty string if there is none.

    Args:
        points: the dots.
        title: read by a screen reader.
        bands: drawn behind the dots.
        levels: names and values of y that are marked by a dashed line.
        size: `WIDE` or `SMALL`.
    """
    if not points:
        return Markup("")
    logs = [math.log10(x) for x in [p.x for p in points] + [x for band in bands for x in band.x]]
    # Bands may leave the chart: where they are wide, they would leave the dots no room.
    ys = [*(p.y for p in points), *(y for _, y in levels), *(y for band in bands for y in band.y)]
    margin = max(MARGIN * (max(logs) - min(logs)), 0.1)
    gap = (max(ys) - min(ys) or abs(max(ys)) or 1.0) * 2 * MARGIN
    frame = _Frame(min(logs) - margin, max(logs) + margin, min(ys) - gap, max(ys) + gap, size)
    x_ticks = log_ticks(frame.x0, frame.x1)
    y_ticks = [t for t in nice_ticks(frame.y0, frame.y1) if frame.y0 <= t <= frame.y1]
    body = [_axes(frame, x_ticks, y_ticks, [format_tick(10.0**tick) for tick in x_ticks])]
    for band in bands:
        xs, style = (
            [frame.x(math.log10(x)) for x in band.x],
            f"var(--series-{band.color % N_COLORS})",
        )
        top, low, middle = (
            [(x, frame.y(min(max(y, frame.y0), frame.y1))) for x, y in zip(xs, ys, strict=True)]
            for ys in (band.high, band.low, band.y)
        )
        body.append(
            f'<polygon style="fill:{style};opacity:.15" points="{_path([*top, *reversed(low)])}"/>'
            f'<polyline class="faint" style="stroke:{style}" points="{_path(middle)}"/>'
        )
    for name, value in levels:
        y, end = frame.y(value), size[0] - RIGHT
        body.append(
            f'<line class="threshold" x1="{LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" text-anchor="end" x="{end}" y="{y - 4:.1f}">{escape(name)}</text>'
        )
    body += [
        f'<circle cx="{frame.x(math.log10(point.x)):.1f}" cy="{frame.y(point.y):.1f}" r="4" '
        f'style="fill:var(--series-{point.color % N_COLORS})"><title>{escape(point.name)}</title>'
        "</circle>"
        for point in points
    ]
    return _svg(title, body, size)


def log_ticks(low: float, high: float) -> list[float]:
    """Return the logarithms of round numbers in a range of logarithms to base 10, three to six."""
    powers, ticks = range(math.floor(low), math.ceil(high)), list[float]()
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [power + math.log10(digit) for power in powers for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) > 2:
            break
    return ticks[:: -(-len(ticks) // 6) or 1]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def bar_chart(bars: Sequence[tuple[str, int]], *, title: str) -> Markup:
    """Draw a few vertical bars, each with its label below and its value on top."""
    ticks = integer_ticks(max(count for _, count in bars), TICKS)
    frame = _Frame(0, len(bars), 0, ticks[-1], size=FLAT)
    body = [_axes(frame, [], ticks)]
    for index, (label, count) in enumerate(bars):
        left, right = frame.x(index + 0.14), frame.x(index + 0.86)
        top, middle = frame.y(count), (left + right) / 2
        body.append(
            f'<rect class="kept" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{max(0, frame.y(0) - top):.1f}"/>'
            f'<text class="value" x="{middle:.1f}" y="{top - 4:.1f}">{format_int(count)}</text>'
            f'<text class="tick" text-anchor="middle" x="{middle:.1f}" '
            f'y="{frame.y(0) + 16:.1f}">{escape(label)}</text>'
        )
    return _svg(title, body, FLAT)


def histogram(
    edges: Sequence[float],
    kept: Sequence[int],
    dropped: Sequence[int],
    *,
    title: str,
    thresholds: Sequence[float] = (),
    log: bool = False,
    size: tuple[int, int] = SMALL,
) -> Markup:
    """Draw stacked bins over a value: kept below, dropped above, thresholds as dashed lines.

    Args:
        edges: n + 1 ascending values (their logarithm to base 10 if ``log``).
        kept: number of kept documents per bin.
        dropped: number of dropped documents per bin.
        title: read by a screen reader.
        thresholds: values, not logarithms.
        log: whether the edges are logarithms.
        size: `SMALL` or `FLAT`.
    """
    ticks = integer_ticks(max(a + b for a, b in zip(kept, dropped, strict=True)), 4)
    frame = _Frame(edges[0], edges[-1], 0, ticks[-1], size)
    if log:
        powers = range(math.ceil(edges[0] - 1e-9), math.floor(edges[-1] + 1e-9) + 1)
        x_ticks, labels = [float(p) for p in powers], [format_tick(10.0**p) for p in powers]
    else:
        x_ticks = [t for t in nice_ticks(edges[0], edges[-1]) if edges[0] <= t <= edges[-1]]
        labels = [format_tick(tick) for tick in x_ticks]
    body = [_axes(frame, x_ticks, ticks, labels)]
    for index, (n_kept, n_dropped) in enumerate(zip(kept, dropped, strict=True)):
        left, right = frame.x(edges[index]) + 0.5, frame.x(edges[index + 1]) - 0.5
        for kind, low, high in (("kept", 0, n_kept), ("dropped", n_kept, n_kept + n_dropped)):
            if high > low:
                body.append(
                    f'<rect class="{kind}" x="{left:.1f}" y="{frame.y(high):.1f}" '
                    f'width="{max(0.5, right - left):.1f}" '
                    f'height="{frame.y(low) - frame.y(high):.1f}"/>'
                )
    for threshold in thresholds:
        x = math.log10(threshold) if log and threshold > 0 else threshold
        if edges[0] <= x <= edges[-1]:
            body.append(_threshold_line(frame, x))
    return _svg(title, body, size)


def _threshold_line(frame: "_Frame", value: float) -> str:
    x = f"{frame.x(value):.1f}"
    return f'<line class="threshold" x1="{x}" x2="{x}" y1="4" y2="{frame.y(frame.y0):.1f}"/>'


@dataclass(frozen=True)
class _Frame:
    """Maps values to positions in the drawing."""

    x0: float
    x1: float
    y0: float
    y1: float
    size: tuple[int, int]

    def x(self, value: float) -> float:
        span = (self.x1 - self.x0) or 1.0
        return LEFT + (value - self.x0) / span * (self.size[0] - LEFT - RIGHT)

    def y(self, value: float) -> float:
        span = (self.y1 - self.y0) or 1.0
        inner = self.size[1] - TOP - BOTTOM
        return TOP + (1 - (value - self.y0) / span) * inner


def _axes(
    frame: _Frame,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_labels: Sequence[str] | None = None,
) -> str:
    out = []
    floor, end = frame.y(frame.y0), frame.size[0] - RIGHT
    for tick in y_ticks:
        y = f"{frame.y(tick):.1f}"
        out.append(f'<line class="grid" x1="{LEFT}" x2="{end}" y1="{y}" y2="{y}"/>')
        out.append(
            f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{float(y) + 4:.1f}">'
            f"{format_tick(tick)}</text>"
        )
    y = f"{floor:.1f}"
    out.append(f'<line class="base" x1="{LEFT}" x2="{end}" y1="{y}" y2="{y}"/>')
    names = x_labels or [format_tick(tick) for tick in x_ticks]
    for tick, name in zip(x_ticks, names, strict=True):
        x = frame.x(tick)
        anchor = "end" if x > end - 18 else "middle"
        out.append(
            f'<text class="tick" text-anchor="{anchor}" x="{x:.1f}" y="{floor + 16:.1f}">'
            f"{escape(name)}</text>"
        )
    return "".join(out)


def _svg(title: str, body: Sequence[str], size: tuple[int, int]) -> Markup:
    # All text in the body is escaped already.
    return Markup(  # noqa: S704
        f'<svg class="chart" role="img" aria-label="{escape(title)}" '
        f'viewBox="0 0 {size[0]} {size[1]}">{"".join(body)}</svg>'
    )
