"""Memorization: the fraction of passages that each model repeats, of training and of held-out documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import try_open_dataset
from infra.schemas.metrics import MEMORIZED, read_metrics
from views.report.report_run import ReportRun, Section

# In the order of the table: those that were seen most first, then what the model cannot have seen.
GROUPS = ("trained", "seen_10_or_more", "seen_2_to_9", "seen_once", "held_out")
AUROC = "suite.memorization.min_k_auroc"


@dataclass(frozen=True)
class MemorizationRow:
    """A group of documents and a length of the beginning.

    Attributes:
        group: of documents.
        prefix: tokens that the model reads.
        cells: each model's row of ``infra.schemas.metrics.METRICS``; ``None`` where it has none.
    """

    group: str
    prefix: int
    cells: Sequence[Mapping[str, Any] | None]


@dataclass(frozen=True)
class Memorization:
    """What the models of a run repeat."""

    models: Sequence[str]
    rows: Sequence[MemorizationRow]
    auroc: Sequence[float | None]
    continuation_tokens: int


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
        MemorizationRow(group, prefix, cells)
        for group in GROUPS
        for prefix in config["prefix_tokens"]
        if any(cells := _cells(metrics, f"suite.memorization.{group}.{MEMORIZED}{prefix}"))
    ]
    auroc = [values.get(AUROC, {}).get("value") for values in metrics]
    return Memorization(list(found), rows, auroc, config["continuation_tokens"])


def _cells(
    metrics: Sequence[Mapping[str, Mapping[str, Any]]], name: str
) -> list[Mapping[str, Any] | None]:
    return [values.get(name) for values in metrics]


SECTION = Section("memorization", "Memorization", collect)
