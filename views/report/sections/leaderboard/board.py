"""The models of a run beside each other: how good each is, and what it cost.

A row is an entry of ``train``; models that differ only in their seed (``seeds``) are one row with their
mean and spread. What a model does not have is missing: a model without a probability has no bits per
byte, one that is counted no FLOPs.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.dataset.dataset import try_open_dataset
from infra.runs.run_records import ModelRecord, RunRecord
from infra.store.storage import Storage
from lm.config.entry import DEFAULT_FAMILY, seeded_name
from views.report.formatting import format_duration, format_float, format_int, format_si
from views.report.sections.models import BASELINES

NOT_EVALUATED, NO_PROBABILITY, NOT_MEASURED = "not evaluated", "no probability", "not measured"
MISSING = "–"
JOULES_PER_WH = 3600.0
MIN_SCORED = 10  # pairs or questions, below which a score is chance
# What training took, which a model that starts from another one's weights has of both.
COSTS = ("tokens", "training_flops", "seconds", "cpu_seconds", "joules")


@dataclass(frozen=True)
class Column:
    """A column of the board: a number that models have.

    Attributes:
        key: of the number in ``BoardModel.values``.
        title: its heading.
        format: a value as text.
        note: what it is, in a sentence.
        is_score: whether it is a result of the evaluation.
        less_is_better: of a score.
    """

    key: str
    title: str
    format: Callable[[float], str]
    note: str
    is_score: bool = False
    less_is_better: bool = True


# The first column that a model has ranks the board. A column is shown if any model has it.
COLUMNS = (
    Column(
        "bits_per_byte",
        "bits per byte",
        format_float,
        "of the held-out text; less is better",
        is_score=True,
    ),
    Column(
        "pseudo_bits_per_byte",
        "pseudo bits per byte",
        format_float,
        "of an encoder, which predicts a token from both sides; not comparable with bits per byte",
        is_score=True,
    ),
    Column(
        "similarity",
        "similarity",
        format_float,
        "of word vectors: rank correlation with people's judgments, mean over the recipe's files; a pair with a word "
        "that has no vector counts as one of average similarity; below, how many pairs have both; more is better",
        is_score=True,
        less_is_better=False,
    ),
    Column(
        "analogies",
        "analogies",
        format_float,
        "of word vectors: fraction answered correctly, mean over the recipe's files; a question with a word that has "
        "no vector counts as wrong; below, how many have all; more is better",
        is_score=True,
        less_is_better=False,
    ),
    Column("parameters", "parameters", format_si, "weights; for an n-gram model: n-grams"),
    Column("tokens", "tokens", format_si, "read in training"),
    Column("training_flops", "FLOPs", format_si, "of training, by the formula of the family"),
    Column(
        "tokens_per_second",
        "tokens/s",
        format_int,
        "median of the training log; of n-grams and word vectors those of all training over its time",
    ),
    Column("seconds", "time", format_duration, "of the train step, with the start of processes"),
    Column("cpu_seconds", "CPU time", format_duration, "of all training processes, or tasks"),
    Column("joules", "energy", lambda joules: f"{joules / JOULES_PER_WH:.3g} Wh", "see below"),
)


@dataclass(frozen=True)
class BoardModel:
    """One trained model.

    Attributes:
        name: of the model.
        entry: of ``train``, which several models share that differ in their seed.
        family: its family.
        values: its numbers by column; those that it does not have are missing.
        is_evaluated: whether the evaluation has scored it.
        coverage: of scores of word vectors: how many rows were scored, of how many.
        base: the model whose weights it started from, what that took included in its numbers; empty without.
        energy_source: where the joules come from; empty without any.
        is_baseline: whether the evaluation has counted it for comparison.
    """

    name: str
    entry: str
    family: str
    values: Mapping[str, float] = field(default_factory=dict)
    is_evaluated: bool = True
    coverage: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    base: str = ""
    energy_source: str = ""
    is_baseline: bool = False


@dataclass(frozen=True)
class Estimate:
    """The mean of a number over seeds, its sample standard deviation, and of how many it is."""

    mean: float
    deviation: float | None
    count: int


@dataclass(frozen=True)
class BoardRow:
    """The models of one entry."""

    models: Sequence[BoardModel]

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.models[0].entry

    @property
    def family(self) -> str:
        """The family of its models."""
        return self.models[0].family

    @property
    def base(self) -> str:
        """See ``BoardModel``; models that differ in their seed have the same."""
        return self.models[0].base

    @property
    def is_baseline(self) -> bool:
        """See ``BoardModel``."""
        return self.models[0].is_baseline

    def estimate(self, key: str) -> Estimate | None:
        """Return the mean and spread of a number; ``None`` if no model has it."""
        values = [model.values[key] for model in self.models if key in model.values]
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return Estimate(statistics.fmean(values), deviation, len(values))

    def cell(self, column: Column) -> str:
        """Return the text of a cell: the mean, or why there is none."""
        estimate = self.estimate(column.key)
        if estimate is not None:
            return column.format(estimate.mean)
        if column.key == "joules" and not self.is_baseline:
            return NOT_MEASURED
        if column.key != COLUMNS[0].key:
            return MISSING
        is_evaluated = any(model.is_evaluated for model in self.models)
        return NO_PROBABILITY if is_evaluated else NOT_EVALUATED

    def coverage(self, column: Column) -> str:
        """Return how many rows a score of word vectors is of, such as ``340 of 353``; empty for others."""
        scored, rows = self.models[0].coverage.get(column.key, (0, 0))
        return f"{scored:,} of {rows:,}" if rows else ""

    def spread(self, column: Column) -> str:
        """Return the spread over seeds, such as ``± 0.004``; empty for a single value, or equal costs."""
        estimate = self.estimate(column.key)
        if estimate is None or estimate.deviation is None:
            return ""
        if not estimate.deviation and not column.is_score:
            return ""
        few = f" ({estimate.count} of {len(self.models)})"
        return f"± {column.format(estimate.deviation)}" + (
            few if estimate.count < len(self.models) else ""
        )

    @property
    def energy_sources(self) -> str:
        """Where the energy comes from: a counter, or the power that the recipe states."""
        return ", ".join(sorted({m.energy_source for m in self.models if m.energy_source}))


@dataclass(frozen=True)
class Leaderboard:
    """Rows, the best first, and the columns that at least one of them has."""

    rows: Sequence[BoardRow]
    columns: Sequence[Column]

    @property
    def models(self) -> list[BoardModel]:
        """The models of all rows."""
        return [model for row in self.rows for model in row.models]

    @property
    def has_energy(self) -> bool:
        """Whether a model has an estimate of its energy."""
        return any(column.key == "joules" for column in self.columns)


def build_leaderboard(storage: Storage, record: RunRecord) -> Leaderboard | None:
    """Compare the models of a run; ``None`` if it has none."""
    models = list(_load_models(storage, record))
    return rank([*models, *_baselines(record)]) if models else None


def rank(models: Sequence[BoardModel]) -> Leaderboard:
    """Group models by entry and sort the entries: by the first column that one has, then by name."""
    by_entry: dict[tuple[bool, str], list[BoardModel]] = {}
    for model in models:
        by_entry.setdefault((model.is_baseline, model.entry), []).append(model)
    rows = [BoardRow(sorted(group, key=lambda model: model.name)) for group in by_entry.values()]
    columns = [
        column
        for index, column in enumerate(COLUMNS)
        if index == 0 or any(row.estimate(column.key) for row in rows)
    ]
    scores = [column for column in columns if column.is_score]

    def order(row: BoardRow) -> tuple[int, float, str]:
        for index, column in enumerate(scores):
            if estimate := row.estimate(column.key):
                value = estimate.mean if column.less_is_better else -estimate.mean
                return index, value, row.name
        return len(scores), 0.0, row.name

    return Leaderboard(sorted(rows, key=order), columns)


def _load_models(storage: Storage, record: RunRecord) -> Iterator[BoardModel]:
    entries = _entries(record)
    loaded: dict[str, BoardModel] = {}
    for model in record.models:
        entry, config = entries.get(model.name, (model.name, {}))
        trained = try_open_dataset(storage, model.train) if model.train else None
        stats: Mapping[str, Any] = {} if trained is None else trained.stats
        family = config.get("family") or (
            DEFAULT_FAMILY if trained is None else trained.manifest.config.get("family")
        )
        values = {
            key: float(stats[key])
            for key in (
                "parameters",
                "tokens",
                "training_flops",
                "tokens_per_second",
                "cpu_seconds",
            )
            if _is_number(stats.get(key))
        }
        means, coverage = _word_vector_scores(model.metrics)
        scores = {**model.metrics, **means}
        values |= {
            column.key: float(scores[column.key])
            for column in COLUMNS
            if column.is_score and _is_number(scores.get(column.key))
        }
        seconds = _train_seconds(record, model)
        if seconds is not None:
            values["seconds"] = seconds
        joules, source = measure_energy(stats, config.get("run") or {}, seconds)
        if joules is not None:
            values["joules"] = joules
        base = str(stats.get("init_from") or "")
        loaded[model.name] = BoardModel(
            model.name,
            entry,
            family or DEFAULT_FAMILY,
            _add_costs(values, loaded.get(base)) if base else values,
            bool(model.metrics),
            coverage,
            base,
            source,
        )
    yield from loaded.values()


def _add_costs(values: Mapping[str, float], base: BoardModel | None) -> dict[str, float]:
    """Return the numbers of a model and the costs of it and its base; a cost that is unknown is missing."""
    known = {} if base is None else base.values
    return {
        key: value + (known[key] if key in COSTS else 0)
        for key, value in values.items()
        if key not in COSTS or key in known
    }


def _word_vector_scores(
    metrics: Mapping[str, Any],
) -> tuple[dict[str, float], dict[str, tuple[int, int]]]:
    """Return the mean over the files of word pairs, and over those of analogies, and how many rows have a score.

    Rows with an unknown word count as missed, so that a small vocabulary is no advantage.
    """
    means, coverage = {}, {}
    for kind, score, rows in (
        ("similarity", "spearman_all", "pairs"),
        ("analogies", "accuracy_all", "questions"),
    ):
        results = [item for item in (metrics.get(kind) or {}).values() if _is_number(item[score])]
        scored = sum(item["scored"] for item in results)
        if scored >= MIN_SCORED:
            means[kind] = statistics.fmean(item[score] for item in results)
            coverage[kind] = scored, sum(item[rows] for item in results)
    return means, coverage


def _entries(record: RunRecord) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return by the name of a model: its entry's name and configuration in the recipe."""
    entries: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for entry in record.config.get("train") or ():
        name = str(entry["name"])
        for seed in entry.get("seeds") or ():
            entries[seeded_name(name, seed)] = (name, entry)
        entries.setdefault(name, (name, entry))
    return entries


def _train_seconds(record: RunRecord, model: ModelRecord) -> float | None:
    """Return how long the run that trained a model took for it; ``None`` if unknown."""
    return next((stage.built_seconds for stage in record.stages if stage.path == model.train), None)


def measure_energy(
    stats: Mapping[str, Any], run: Mapping[str, Any], seconds: float | None
) -> tuple[float | None, str]:
    """Return joules and where they come from: counters, else the stated power, else nothing."""
    counted = {
        name: float(stats[key])
        for name, key in (("RAPL", "cpu_joules"), ("NVML", "gpu_joules"))
        if _is_number(stats.get(key))
    }
    if counted:
        return sum(counted.values()), " + ".join(counted)
    watts = run.get("watts")
    if watts is not None and seconds is not None:
        return watts * seconds, f"{watts:g} W stated"
    return None, ""


def _baselines(record: RunRecord) -> Iterator[BoardModel]:
    """Yield the evaluation's baselines, which are the same for all models."""
    scored: Mapping[str, Any] = next(
        (m.metrics["baselines"] for m in record.models if "baselines" in m.metrics), {}
    )
    for key, title in BASELINES.items():
        bits = scored.get(key, {}).get("bits_per_byte")
        if _is_number(bits):
            yield BoardModel(
                title, title, "ngram", {"bits_per_byte": float(bits)}, is_baseline=True
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
