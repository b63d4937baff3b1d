"""Charts of a fine-tuned model: learning curves beside those of the baselines, ROC, precision and recall, calibration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from views.report.charts import SMALL, Band, Line, Point, line_chart, scatter_chart
from views.report.formatting import format_int

MAX_BASELINES = 3  # of a learning curve
MAX_CLASSES = 6  # of the curves of a classifier: those with the most test examples
MAX_EXTRAPOLATION = 1000.0  # beyond that many times the examples, two curves are said not to meet


@dataclass(frozen=True)
class CurvePoint:
    """A system that was trained on a number of examples: its metric and the interval of that."""

    examples: int
    value: float
    low: float
    high: float


Curves = Mapping[str, Sequence[CurvePoint]]  # by system; ascending in the number of examples


def draw_learning_curves(curves: Curves, metric: str) -> Markup:
    """Draw the metric of each system over the number of training examples; nothing for a single number."""
    if len({point.examples for points in curves.values() for point in points}) < 2:
        return Markup("")
    dots, bands = [], []
    for color, (name, points) in enumerate(curves.items()):
        dots += [
            Point(
                f"{name}: {point.value:.3f} with {format_int(point.examples)}",
                point.examples,
                point.value,
                color,
            )
            for point in points
        ]
        bands.append(
            Band(
                [point.examples for point in points],
                [point.value for point in points],
                [point.low for point in points],
                [point.high for point in points],
                color,
            )
        )
    return scatter_chart(
        dots, bands=bands, title=f"{metric} over the number of training examples, logarithmic"
    )


def describe_crossing(
    model: Sequence[CurvePoint], rival: Sequence[CurvePoint], *, is_loss: bool
) -> str | None:
    """Say from how many examples on the model is better than a rival; ``None`` for a single number of them.

    Between two numbers of examples, and beyond the largest, metrics are taken to change linearly with the
    logarithm of the number.
    """
    values = {point.examples: point.value for point in rival}
    sign = -1.0 if is_loss else 1.0
    gaps = [
        (math.log(point.examples), sign * (point.value - values[point.examples]))
        for point in model
        if point.examples in values
    ]
    if len(gaps) < 2:
        return None
    if gaps[-1][1] >= 0:
        behind = [index for index, (_, gap) in enumerate(gaps) if gap < 0]
        if not behind:
            return f"ahead with {format_int(model[0].examples)} examples and more"
        (x0, y0), (x1, y1) = gaps[behind[-1]], gaps[behind[-1] + 1]
        return f"ahead from about {_round(math.exp(x0 + (x1 - x0) * y0 / (y0 - y1)))} examples on"
    (x0, y0), (x1, y1) = gaps[-2:]
    slope = (y1 - y0) / (x1 - x0)
    if slope <= 0 or -y1 / slope > math.log(MAX_EXTRAPOLATION):
        return "behind with all examples, and not catching up"
    return (
        f"behind with all examples; if both went on like this, the curves would cross at about "
        f"{_round(math.exp(x1 - y1 / slope))}"
    )


def _round(count: float) -> str:
    """Format a number of examples that is known roughly: two digits."""
    digits = max(0, math.floor(math.log10(max(count, 1))) - 1)
    return format_int(round(count, -digits))


@dataclass(frozen=True)
class Chart:
    """A chart with its caption, and the names of its lines."""

    title: str
    caption: str
    chart: Markup
    legend: Sequence[str] = ()


def draw_classifier(details: Mapping[str, Any]) -> list[Chart]:
    """Draw the ROC and precision-recall curves of the most frequent classes, and the reliability diagram."""
    charts = []
    ranked = sorted(
        details.get("curves", {}).items(), key=lambda item: (-item[1]["positives"], item[0])
    )
    classes = ranked[:MAX_CLASSES]
    for key, summary, title, caption in (
        ("roc", "roc_auc", "ROC", "true positive rate over false positive rate; area"),
        (
            "precision_recall",
            "average_precision",
            "Precision and recall",
            "precision over recall; average precision",
        ),
    ):
        lines = [
            Line(name, [(x, y) for x, y in curve[key]], color)
            for color, (name, curve) in enumerate(classes)
        ]
        legend = [
            f"{name} {curve[summary]:.3f}, n {format_int(curve['positives'])}"
            for name, curve in classes
        ]
        if lines:
            charts.append(
                Chart(
                    title,
                    caption,
                    line_chart(lines, title=title, size=SMALL, from_zero=True),
                    legend,
                )
            )
    bins = details.get("calibration", ())
    if bins:
        measured = [(item["confidence"], item["accuracy"]) for item in bins]
        lines = [
            Line("measured", measured, 0, dots=True),
            Line("ideal", [(0.0, 0.0), (1.0, 1.0)], 1, faint=True),
        ]
        total = sum(item["n"] for item in bins)
        charts.append(
            Chart(
                "Reliability",
                f"how often predictions of a probability are right, over that probability; n {format_int(total)}",
                line_chart(lines, title="Reliability", size=SMALL, from_zero=True),
                ("measured", "ideal"),
            )
        )
    return charts
