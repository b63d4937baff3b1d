"""The models of the run beside each other, bits per byte over the compute of training, scaling laws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from views.report.charts import N_COLORS, Band, Point, scatter_chart
from views.report.formatting import format_4g, format_float
from views.report.report_run import ReportRun, Section
from views.report.sections.leaderboard.board import BoardModel, Leaderboard, build_leaderboard
from views.report.sections.leaderboard.scaling_law import (
    LEVEL,
    MIN_SIZES,
    ScalingLaw,
    fit_scaling_law,
)

SCORE = "bits_per_byte"  # of the chart
CHART_TITLE = "Bits per byte over FLOPs of training"
BAND_POINTS = 60


@dataclass(frozen=True)
class LeaderboardPage:
    """What the section shows.

    Attributes:
        board: the table.
        chart: bits per byte over FLOPs; empty if no model has both.
        families: those in the chart, with the number of their color.
        laws: a sentence per fitted law.
        missing: which families have too few sizes for a law; empty if none.
    """

    board: Leaderboard
    chart: Markup
    families: Sequence[tuple[str, int]]
    laws: Sequence[Markup]
    missing: str


def collect(run: ReportRun) -> LeaderboardPage | None:
    """Return the board of the run; ``None`` if it has no model."""
    board = build_leaderboard(run.storage, run.record)
    return None if board is None else describe_board(board)


def describe_board(board: Leaderboard) -> LeaderboardPage:
    """Draw the chart and fit the scaling laws."""
    drawn = [
        model
        for model in board.models
        if min(model.values.get(SCORE, 0), model.values.get("training_flops", 0)) > 0
    ]
    families = sorted({model.family for model in drawn})
    by_family = {name: [m for m in drawn if m.family == name] for name in families}
    laws = {name: _fit(models) for name, models in by_family.items() if _sizes(models) >= MIN_SIZES}
    counted = [
        (row.name, estimate.mean)
        for row in board.rows
        if not row.estimate("training_flops") and (estimate := row.estimate(SCORE))
    ]
    colors = {name: number % N_COLORS for number, name in enumerate(families)}
    chart = scatter_chart(
        [
            Point(m.name, m.values["training_flops"], m.values[SCORE], colors[m.family])
            for m in drawn
        ],
        title=CHART_TITLE,
        bands=[
            _band(law, [m.values["training_flops"] for m in by_family[name]], colors[name])
            for name, law in laws.items()
        ],
        levels=counted[:1],  # the best of those without FLOPs
    )
    return LeaderboardPage(
        board,
        chart,
        list(colors.items()),
        [_describe_law(name, law, by_family[name]) for name, law in laws.items()],
        _describe_missing({n: _sizes(models) for n, models in by_family.items() if n not in laws}),
    )


def _sizes(models: Sequence[BoardModel]) -> int:
    """Return how many different computes of training there are: seeds of one entry have one."""
    return len({model.values["training_flops"] for model in models})


def _fit(models: Sequence[BoardModel]) -> ScalingLaw:
    ordered = sorted(models, key=lambda model: (model.values["training_flops"], model.name))
    return fit_scaling_law(
        [model.values["training_flops"] for model in ordered],
        [model.values[SCORE] for model in ordered],
    )


def _band(law: ScalingLaw, flops: Sequence[float], color: int) -> Band:
    grid = np.geomspace(min(flops), max(flops), BAND_POINTS)
    low, high = law.band(grid)
    return Band(grid.tolist(), law.loss(grid).tolist(), low.tolist(), high.tolist(), color)


def _describe_law(family: str, law: ScalingLaw, models: Sequence[BoardModel]) -> Markup:
    low, high = map(format_float, law.exponents)
    return Markup(
        "{}: L(C) = {} + {} C<sup>−{}</sup> bits per byte, from {} models of {} sizes; {:.0f} % of the "
        "bootstrap's exponents are between {} and {}"
    ).format(
        family,
        format_float(law.floor),
        format_4g(float(np.exp(law.log_scale))),
        format_float(law.exponent),
        len(models),
        _sizes(models),
        100 * LEVEL,
        low,
        high,
    )


def _describe_missing(sizes: dict[str, int]) -> str:
    if not sizes:
        return ""
    lacking = ", ".join(f"{name} lacks {MIN_SIZES - count}" for name, count in sizes.items())
    return f"A scaling law is fitted to a family of at least {MIN_SIZES} sizes (different FLOPs): {lacking}."


SECTION = Section("leaderboard", "Leaderboard", collect)
