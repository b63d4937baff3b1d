"""Models on suites of items: their metrics, and which differences between them can be told from chance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.runs.run_records import FinetunedRecord, ModelRecord, RunRecord
from infra.schemas.metrics import (
    CLEAN,
    SEED,
    Item,
    ItemKey,
    group_items,
    higher_is_better,
    metric_name,
    read_items,
    read_metrics,
    share_items,
)
from infra.statistics.comparison import (
    Answer,
    PairedDifference,
    SeedDifference,
    classify_difference,
    compare_paired,
    compare_seeds,
    correct_holm,
)
from infra.store.storage import Storage
from lm.config.entry import seeded_name

# Of these every model has one number per suite that is compared; the others are shown.
COMPARED_METRICS = (
    "bits_per_byte",
    "pseudo_nats_per_token",
    "accuracy",
    "exact_match",
    "accuracy_all",
    "gap",
    "flagged",
)
# Two entries, or models, that are compared: name and models of each.
Group = tuple[str, Sequence["ScoredModel"], str, Sequence["ScoredModel"]]
MAX_ENTRIES = 6  # with more, only the first is compared with each of the others


@dataclass(frozen=True)
class ScoredModel:
    """A model with its results.

    Attributes:
        name: of the model.
        entry: name of its entry under ``train``; models of one entry differ in their seed.
        metrics: name -> row of ``infra.schemas.metrics.METRICS``, of suites and of held-out documents.
        items: values by item, by suite and metric.
        suites: what the suites are (``tasks.suites``).
        contamination: by suite, numbers and examples (``tasks.suites``).
        path: of the data set of the suites.
        base: of a fine-tuned model the model that it started from; ``None``: it was trained.
    """

    name: str
    entry: str
    metrics: Mapping[str, Mapping[str, Any]]
    items: Mapping[ItemKey, Sequence[Item]]
    suites: Sequence[Mapping[str, Any]]
    contamination: Mapping[str, Mapping[str, Any]]
    path: str
    base: str | None = None


@dataclass(frozen=True)
class SuiteVerdict:
    """Whether one entry is better than another on a suite.

    Attributes:
        metric: its name, such as ``suite.lambada.bits_per_byte``.
        a: the first entry.
        b: the second one, which it is compared with.
        difference: a minus b.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: corrected for all comparisons of the run (Holm 1979); ``None``: cannot be computed.
        n: number of items.
        items_needed: items with which a difference of this size is found with a probability of 80 %;
            ``None``: there is none, or more seeds are needed, not items.
        seeds: numbers of seeds of both.
        answer: ``better``, ``worse`` or ``cannot be told``, of a.
    """

    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float | None
    n: int
    items_needed: int | None
    seeds: tuple[int, int]
    answer: Answer

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def load_scored_models(storage: Storage, record: RunRecord) -> list[ScoredModel]:
    """Load the run's models that have results on suites, in the order of the recipe; fine-tuned ones come last."""
    entries = _entry_names(record.config)
    models = []
    for model in record.models:
        data = try_open_dataset(storage, model.suites) if model.suites else None
        if data is not None:
            entry = entries.get(model.name, model.name)
            models.append(_load_model(storage, model, model.evaluate, data, entry))
    bases = {item["name"]: str(item["base"]) for item in record.config.get("finetune", ())}
    for tuned in record.finetuned:
        data = try_open_dataset(storage, tuned.suites) if tuned.suites else None
        if data is not None:
            found = _load_model(storage, tuned, None, data, tuned.entry)
            models.append(replace(found, base=bases[tuned.entry]))
    return models


def _load_model(
    storage: Storage,
    model: ModelRecord | FinetunedRecord,
    evaluate: str | None,
    data: Dataset,
    entry: str,
) -> ScoredModel:
    datasets = [data]
    evaluated = try_open_dataset(storage, evaluate) if evaluate else None
    if evaluated is not None:
        datasets.append(evaluated)
    rows = [row for item in datasets for row in read_metrics(item).to_pylist()]
    return ScoredModel(
        model.name,
        entry,
        {row["name"]: row for row in rows},
        group_items(pa.concat_tables([read_items(item) for item in datasets])),
        data.stats["suites"],
        data.stats["contamination"],
        model.suites or "",
    )


def _entry_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of the entry of each model that is one of several seeds."""
    names = {}
    for entry in config.get("train", ()):
        for seed in entry.get("seeds") or ():
            names[seeded_name(str(entry["name"]), seed)] = str(entry["name"])
    return names


def compare_on_suites(models: Sequence[ScoredModel]) -> list[SuiteVerdict]:
    """Compare the entries of a run pairwise on each suite, and on the held-out documents.

    A fine-tuned entry is compared with the model that it started from alone: what it was tuned for, and what it lost.

    Models of one seed each are compared over the same items. If both entries have several seeds, these are
    compared, because another seed can make more of a difference than another entry. If only one of them has, the
    spread between the other's seeds is unknown, and each of its models is compared for itself. Among many comparisons
    some differ by chance: p-values are corrected for all of them.
    """
    trained: dict[str, list[ScoredModel]] = {}
    tuned: dict[str, list[ScoredModel]] = {}
    for model in models:
        by_entry = trained if model.base is None else tuned
        by_entry.setdefault(model.entry, []).append(model)
    names = list(trained)
    pairs = list(combinations(names, 2))
    if len(names) > MAX_ENTRIES:
        pairs = [(names[0], other) for other in names[1:]]
    groups = [group for a, b in pairs for group in _pair_models(a, trained[a], b, trained[b])]
    by_name = {model.name: model for model in models}
    for name, own in tuned.items():
        base = by_name.get(own[0].base or "")
        groups += [] if base is None else _pair_models(name, own, base.name, [base])
    drafts = [
        draft
        for a, a_models, b, b_models in groups
        for key in _compared_keys([*a_models, *b_models])
        if (draft := _compare(a, a_models, b, b_models, key)) is not None
    ]
    known = [draft for draft in drafts if draft["p_value"] is not None]
    corrected = correct_holm([draft["p_value"] for draft in known])
    for draft, p_value in zip(known, corrected, strict=True):
        draft["p_value"] = p_value
    return [
        SuiteVerdict(
            **draft,
            answer=classify_difference(
                draft["difference"],
                draft["p_value"],
                higher_is_better=higher_is_better(draft["metric"]),
            ),
        )
        for draft in drafts
    ]


def _pair_models(
    a: str, a_models: Sequence[ScoredModel], b: str, b_models: Sequence[ScoredModel]
) -> list[Group]:
    """Return two entries with their models, or each pair of models if only one entry has several."""
    if (len(a_models) > 1) == (len(b_models) > 1):
        return [(a, a_models, b, b_models)]
    return [(one.name, [one], other.name, [other]) for one in a_models for other in b_models]


def _compared_keys(models: Sequence[ScoredModel]) -> list[ItemKey]:
    """Return the suites and metrics that all models have: of each suite the first of ``COMPARED_METRICS``."""
    shared = set.intersection(*(set(model.items) for model in models))
    keys = []
    for suite in sorted({suite for suite, _ in shared}):
        if "." in suite:
            continue  # a domain, or clean items: parts of a suite that is compared as a whole
        metric = next((name for name in COMPARED_METRICS if (suite, name) in shared), None)
        if metric is not None:
            keys.append((suite, metric))
    return keys


def _compare(
    a: str, a_models: Sequence[ScoredModel], b: str, b_models: Sequence[ScoredModel], key: ItemKey
) -> dict[str, Any] | None:
    shared = share_items([model.items[key] for model in (*a_models, *b_models)])
    if shared is None:
        return None
    values, weights, clusters = shared
    first, second = values[: len(a_models)], values[len(a_models) :]
    common = {"metric": metric_name(*key), "a": a, "b": b, "n": len(weights)}
    seeds = len(a_models), len(b_models)
    if min(seeds) > 1:
        by_seed = compare_seeds(first, second, weights, clusters, SEED)
        return {**common, **_interval(by_seed), "items_needed": None, "seeds": seeds}
    paired = compare_paired(first[0], second[0], weights, clusters, SEED)
    return {
        **common,
        **_interval(paired),
        "items_needed": paired.items_needed,
        "seeds": (1, 1),
    }


def _interval(found: PairedDifference | SeedDifference) -> dict[str, float | None]:
    numbers = {"difference": found.value, "low": found.low, "high": found.high}
    return {**numbers, "p_value": found.p_value}


def suite_metrics(models: Sequence[ScoredModel]) -> list[str]:
    """Return the names of the metrics of whole suites, in the order in which they are shown."""
    names = dict.fromkeys(name for model in models for name in model.metrics)
    return [name for name in names if name.startswith("suite.") and name.count(".") == 2]


def clean_name(metric: str) -> str:
    """Return the name of a suite's metric over the items that are not in the training text."""
    suite, _, last = metric.rpartition(".")
    return f"{suite}.{CLEAN}.{last}"
