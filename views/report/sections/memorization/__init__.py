"""Memorization: the fraction of passages that each model repeats, of training and of held-out documents."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.schemas.metrics import MEMORIZED, NEAR_EXACT, read_metrics
from views.report.report_run import ReportRun, Section

# In the order of the table: those that were seen most first, then what the model cannot have seen.
GROUPS = ("trained", "seen_10_or_more", "seen_2_to_9", "seen_once", "held_out", "personal_data")
CANARIES = re.compile(r"suite\.memorization\.canaries_(\d+)\.exposure")
AUROC = "suite.memorization.min_k_auroc"


@dataclass(frozen=True)
class MemorizationRow:
    """A group of documents and a length of the beginning.

    Attributes:
        group: of documents.
        prefix: tokens that the model reads.
        cells: each model's row of ``infra.schemas.metrics.METRICS``; ``None`` where it has none.
        near: the same of passages that are repeated almost exactly; empty if that was not measured.
    """

    group: str
    prefix: int
    cells: Sequence[Mapping[str, Any] | None]
    near: Sequence[Mapping[str, Any] | None]


@dataclass(frozen=True)
class CanaryRow:
    """The exposure of canaries that were planted so often, a row of ``METRICS`` for each model."""

    repetitions: int
    cells: Sequence[Mapping[str, Any] | None]


@dataclass(frozen=True)
class Memorization:
    """What the models of a run repeat.

    Attributes:
        models: their names.
        rows: of the table of passages.
        auroc: of Min-K%, by model.
        continuation_tokens: length of a passage.
        near_exact: fraction of its tokens that are repeated if it is repeated almost exactly.
        canaries: their exposure.
        max_exposure: the largest that can be measured.
        personal_data: by model, passages that it repeats, masked.
    """

    models: Sequence[str]
    rows: Sequence[MemorizationRow]
    auroc: Sequence[float | None]
    continuation_tokens: int
    near_exact: float
    canaries: Sequence[CanaryRow]
    max_exposure: float
    personal_data: Sequence[tuple[str, Mapping[str, Any]]]


def collect(run: ReportRun) -> Memorization | None:
    """Return what the run's models repeat; ``None`` if it was not measured."""
    found = {
        entry.name: data
        for entry in run.record.models
        if entry.memorization
        and (data := try_open_dataset(run.storage, entry.memorization)) is not None
    }
    if not found:
        return None
    metrics = [
        {row["name"]: row for row in read_metrics(data).to_pylist()} for data in found.values()
    ]
    config = next(iter(found.values())).manifest.config
    rows = [
        MemorizationRow(
            group,
            prefix,
            cells,
            near if any(near := _cells(metrics, f"{name}{NEAR_EXACT}{prefix}")) else (),
        )
        for group in GROUPS
        for prefix in config["prefix_tokens"]
        if any(
            cells := _cells(
                metrics, f"{(name := f'suite.memorization.{group}.')}{MEMORIZED}{prefix}"
            )
        )
    ]
    auroc = [values.get(AUROC, {}).get("value") for values in metrics]
    return Memorization(
        list(found),
        rows,
        auroc,
        config["continuation_tokens"],
        config["near_exact"],
        _canary_rows(metrics),
        math.log2(config["canary_candidates"] + 1),
        _personal_data(run, found),
    )


def _canary_rows(metrics: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[CanaryRow]:
    names = {name for values in metrics for name in values}
    numbers = sorted(int(match[1]) for name in names if (match := CANARIES.fullmatch(name)))
    return [
        CanaryRow(number, _cells(metrics, f"suite.memorization.canaries_{number}.exposure"))
        for number in numbers
    ]


def _personal_data(
    run: ReportRun, found: Mapping[str, Dataset]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return what models repeat of documents that may be named."""
    rows = [(name, row) for name, data in found.items() for row in data.stats["personal_data"]]
    removed = run.find_removed({row["document"]: row["url"] for _, row in rows})
    return [(name, row) for name, row in rows if row["document"] not in removed]


def _cells(
    metrics: Sequence[Mapping[str, Mapping[str, Any]]], name: str
) -> list[Mapping[str, Any] | None]:
    return [values.get(name) for values in metrics]


SECTION = Section("memorization", "Memorization", collect)
