"""How long each data set took to build, and what the evaluation of each model cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.dataset.step import Output, steps_with_output
from infra.runs.run_records import StageRecord
from views.report.formatting import format_duration
from views.report.report_run import ReportRun, Section, Tile

# What the stages of evaluation make.
SCORES: tuple[Output, ...] = ("scores", "suite_scores", "repeated_passages", "test_scores")


@dataclass(frozen=True)
class EvaluationCost:
    """Seconds that the evaluation of a model took, by stage, whichever run did it."""

    model: str
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Timings:
    """What the section shows.

    Attributes:
        bars: the data sets, each with the length of its bar, in % of the longest.
        stages: those of evaluation that the run has.
        costs: of the models, the most expensive first.
    """

    bars: Sequence[tuple[StageRecord, float]]
    stages: Sequence[str]
    costs: Sequence[EvaluationCost]


def collect(run: ReportRun) -> Timings:
    """Return a bar per data set of the run, of this run's time or of the run that built it, and sums by model."""
    seconds = [_seconds(entry) for entry in run.record.stages]
    longest = max(seconds, default=0.0) or 1.0
    widths = (100 * length / longest for length in seconds)
    evaluation = steps_with_output(run.steps, *SCORES)
    costs = evaluation_costs(run.record.stages, evaluation)
    return Timings(
        list(zip(run.record.stages, widths, strict=True)),
        [stage for stage in evaluation if any(stage in cost.seconds for cost in costs)],
        costs,
    )


def _seconds(entry: StageRecord) -> float:
    return max(entry.seconds, entry.built_seconds or 0.0)


def evaluation_costs(
    stages: Sequence[StageRecord], evaluation: Sequence[str]
) -> list[EvaluationCost]:
    """Return the cost of each model in these stages of evaluation, the most expensive first.

    A stage that is cached counts with the time of the run that built it. What models share, such as the baselines, is
    not counted.
    """
    found: dict[str, dict[str, float]] = {}
    for entry in stages:
        if entry.stage in evaluation and entry.entry is not None:
            found.setdefault(entry.entry, {})[entry.stage] = _seconds(entry)
    costs = [EvaluationCost(model, seconds) for model, seconds in found.items()]
    return sorted(costs, key=lambda cost: (-cost.total, cost.model))


def tiles(run: ReportRun, data: Timings) -> list[Tile]:
    """Return the duration of the run."""
    cached = sum(entry.cached for entry, _ in data.bars)
    note = f"{cached} of {len(data.bars)} data sets were already committed" if cached else ""
    return [Tile("Duration", format_duration(run.record.seconds), note)]


SECTION = Section("timings", "Timings", collect, tiles)
