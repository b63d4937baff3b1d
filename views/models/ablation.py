"""What a change of the corpus does to models: variants of a recipe beside the recipe as it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from infra.errors import UserError
from infra.runs.run_records import RunRecord
from infra.schemas.metrics import (
    SEED,
    Item,
    ItemKey,
    group_items,
    higher_is_better,
    metric_name,
    read_items,
    share_items,
)
from infra.statistics.comparison import (
    Answer,
    SeedDifference,
    classify_difference,
    compare_seeds,
    correct_holm,
)
from infra.store.storage import Storage
from lm.config.entry import seeded_name
from views.models.comparison import align_rows
from views.report.formatting import format_float

Requirement = Literal["not-worse", "better"]
HEADER = (
    "variant",
    "metric",
    "baseline",
    "variant's",
    "difference",
    "95 % interval",
    "p",
    "verdict",
)


@dataclass(frozen=True)
class VariantMetric:
    """A metric of a variant's models beside that of the models of the recipe as it is.

    Attributes:
        variant: its name.
        metric: such as ``bits_per_byte``.
        baseline: mean over seeds and shared items of the recipe as it is.
        value: that of the variant.
        difference: the variant minus the recipe as it is.
        p_value: corrected for the number of metrics and variants (Holm 1979).
        answer: what can be said of the variant.
    """

    variant: str
    metric: str
    baseline: float
    value: float
    difference: SeedDifference
    p_value: float | None
    answer: Answer

    @property
    def cells(self) -> list[str]:
        """Its row in the table."""
        change = self.difference
        return [
            self.variant,
            self.metric,
            format_float(self.baseline, 4),
            format_float(self.value, 4),
            f"{change.value:+.4f}",
            f"{change.low:+.4f} to {change.high:+.4f}",
            format_float(self.p_value),
            self.answer,
        ]


@dataclass(frozen=True)
class Ablation:
    """All comparisons of an ablation.

    Attributes:
        recipe: its name.
        model: the entry of ``train`` that was trained on each variant.
        seeds: with which seeds.
        runs: the run of each variant, by its name.
        metrics: the comparisons.
    """

    recipe: str
    model: str
    seeds: Sequence[int]
    runs: Mapping[str, str]
    metrics: Sequence[VariantMetric]

    @property
    def rows(self) -> list[list[str]]:
        """The table with its header."""
        return [list(HEADER), *(item.cells for item in self.metrics)]

    def satisfies(self, requirement: Requirement) -> bool:
        """Return whether no variant is worse by any metric, and with ``better`` each is better by one."""
        answers: dict[str, set[Answer]] = {}
        for item in self.metrics:
            answers.setdefault(item.variant, set()).add(item.answer)
        is_better = requirement == "not-worse" or all(
            "better" in known for known in answers.values()
        )
        return is_better and not any("worse" in known for known in answers.values())

    def to_text(self) -> str:
        """Format for a terminal."""
        return align_rows(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "runs": dict(self.runs), "seeds": list(self.seeds)}


def compare_variants(
    storage: Storage,
    records: Mapping[str, RunRecord],
    recipe: str,
    model: str,
    seeds: Sequence[int],
) -> Ablation:
    """Compare the models of each variant with those of the first, over the items that all of them scored.

    Args:
        storage: the root of the store.
        records: the completed run of each variant by its name; the first is that of the recipe as it is.
        recipe: name of the recipe.
        model: name of the entry that was trained.
        seeds: of the models.

    Raises:
        UserError: if two variants have no scored item in common.
    """
    models = [seeded_name(model, seed) for seed in seeds]
    scores = {
        name: [_model_scores(storage, record, model) for model in models]
        for name, record in records.items()
    }
    (_, baseline), *others = scores.items()
    measured = []
    for name, variant in others:
        compared = list(_compare(name, baseline, variant))
        if not compared:
            raise UserError(
                f"{recipe}: the models of {name} and of the recipe as it is have no scored item in common, so "
                "they cannot be compared: add a suite to evaluate.suites, or hold out more documents"
            )
        measured += compared
    p_values = correct_holm([1.0 if x.p_value is None else x.p_value for *_, x in measured])
    metrics = [
        VariantMetric(
            variant=name,
            metric=metric_name(*key),
            baseline=before,
            value=before + difference.value,
            difference=difference,
            p_value=None if difference.p_value is None else p_value,
            answer=classify_difference(
                difference.value, p_value, higher_is_better=higher_is_better(key[1])
            ),
        )
        for (name, key, before, difference), p_value in zip(measured, p_values, strict=True)
    ]
    runs = {name: record.run for name, record in records.items()}
    return Ablation(recipe, model, seeds, runs, metrics)


Scores = Mapping[ItemKey, Sequence[Item]]  # by suite and metric


def _model_scores(storage: Storage, record: RunRecord, model: str) -> Scores:
    """Return the scores of a model."""
    scores: dict[ItemKey, Sequence[Item]] = {}
    for stage in record.stages:
        if stage.entry == model:
            scores |= group_items(read_items(stage.open(storage)))
    return scores


def _compare(
    name: str, baseline: Sequence[Scores], variant: Sequence[Scores]
) -> Iterator[tuple[str, ItemKey, float, SeedDifference]]:
    """Yield the variant's name, the metric, its mean in the baseline, and the difference."""
    models = [*baseline, *variant]
    for key in sorted(set.intersection(*(set(scores) for scores in models))):
        shared = share_items([scores[key] for scores in models])
        if shared is None:
            continue
        values, weights, clusters = shared
        before, after = values[: len(baseline)], values[len(baseline) :]
        mean = float((before @ weights).mean() / weights.sum())
        yield name, key, mean, compare_seeds(after, before, weights, clusters, SEED)
