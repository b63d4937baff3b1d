"""Annotations as data sets, without running annotators."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.schemas.annotations import CHAPTER_SPANS_TYPE, SPANS_TYPE
from infra.schemas.quality_rules import RULES
from infra.schemas.signals import SIGNALS

ANNOTATE = Stage("annotate", ("tests.select.annotations",))
TYPES = {
    "id": pa.string(),
    "language": pa.string(),
    "language_score": pa.float64(),
    "pii": SPANS_TYPE,
    "pii_title": SPANS_TYPE,
    "pii_chapters": CHAPTER_SPANS_TYPE,
    **{name: signal.type for name, signal in SIGNALS.items()},
}
# Every rule passes at its own threshold.
PASSING: dict[str, Any] = {
    **dict.fromkeys(SIGNALS, 1),
    **{rule.signal: rule.threshold for rules in RULES.values() for rule in rules},
    "gopher_quality_word_count": 1000,
    "gopher_quality_mean_word_length": 5.0,
}


def annotation(**more: Any) -> dict[str, Any]:
    """Annotations that pass every rule, with some values replaced."""
    broken = {name for name in more if name not in TYPES}
    assert not broken
    private: dict[str, Any] = {"pii": [], "pii_title": [], "pii_chapters": []}
    return {**PASSING, "id": "x", "language": "en", "language_score": 0.9, **private, **more}


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Annotations as a table."""
    return pa.table(
        {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    )


def write(texts: pa.Table, rows: Sequence[dict[str, Any] | None]) -> Iterator[PartResult]:
    """Write a part; ``None`` is a document whose annotation failed."""
    good = [i for i, row in enumerate(rows) if row is not None]
    verdicts = ledger_table(
        "annotate",
        texts["id"].to_pylist(),
        reasons=[None if row else "ValueError" for row in rows],
        failed=[row is None for row in rows],
    )
    measured = [
        {**row, "id": texts["id"][i].as_py(), "characters": len(texts["text"][i].as_py())}
        for i in good
        if (row := rows[i]) is not None
    ]
    yield PartResult(table(measured), verdicts)


def annotated(
    ctx: Context, documents: Dataset, rows: Sequence[Sequence[dict[str, Any] | None]] | None = None
) -> Dataset:
    """Annotations of a data set of documents: given ones, or ones that pass every rule."""
    units = []
    for number, part in enumerate(documents.parts):
        given = rows[number] if rows is not None else [annotation()] * part.num_rows
        units.append(
            WorkUnit(json_sha256([part.content, list(given)]), (part.table(), given), part.num_rows)
        )
    spec = DatasetSpec(
        ANNOTATE, documents.source, {"keys": [unit.key for unit in units]}, (documents,)
    )
    return build_dataset(ctx, spec, units, write)
