"""The ledger: the verdict of every stage on every document, as rows beside the data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

KEPT, DROPPED, FAILED = "kept", "dropped", "failed"

LEDGER_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("stage", pa.string()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("evidence", pa.string()),
    ]
)


@dataclass(frozen=True)
class Verdict:
    """The verdict on one document: kept if it has no reason, else dropped by a rule, or failed."""

    reason: str | None = None
    evidence: Mapping[str, Any] | None = None
    failed: bool = False

    @property
    def kept(self) -> bool:
        """Whether the document is kept."""
        return self.reason is None


def dropped(reason: str, **evidence: Any) -> Verdict:
    """The verdict of a rule that drops a document."""
    return Verdict(reason, evidence or None)


def failed(reason: str, **evidence: Any) -> Verdict:
    """The verdict on a document that could not be fetched or read."""
    return Verdict(reason, evidence or None, failed=True)


def verdict_table(stage: str, rows: Sequence[tuple[str, str | None, Verdict]]) -> pa.Table:
    """Make ledger rows from the id, the URL (where known) and the verdict of each document."""
    return ledger_table(
        stage,
        [doc_id for doc_id, _, _ in rows],
        urls=[url for _, url, _ in rows],
        reasons=[verdict.reason for _, _, verdict in rows],
        failed=[verdict.failed for _, _, verdict in rows],
        evidence=[verdict.evidence for _, _, verdict in rows],
    )


def ledger_table(
    stage: str,
    ids: Sequence[str],
    *,
    urls: Sequence[str | None] | None = None,
    reasons: Sequence[str | None] | None = None,
    failed: Sequence[bool] | None = None,
    evidence: Sequence[Mapping[str, Any] | None] | None = None,
) -> pa.Table:
    """Make ledger rows for n documents, in their order.

    Args:
        stage: the name of the stage that gives the verdicts.
        ids: n document ids.
        urls: their URLs, where known.
        reasons: why each did not pass; ``None`` for a document that was kept.
        failed: whether the reason is a failure (an error) rather than a rule that rejects it.
        evidence: what the verdict is based on, as JSON values.

    Raises:
        ValueError: if the columns differ in length, or a kept document is marked as failed.
    """
    n = len(ids)
    columns = {"urls": urls, "reasons": reasons, "failed": failed, "evidence": evidence}
    for name, column in columns.items():
        if column is not None and len(column) != n:
            raise ValueError(f"{name} has {len(column)} rows for {n} documents")
    reasons = reasons or [None] * n
    failed = failed or [False] * n
    if any(is_failed and reason is None for is_failed, reason in zip(failed, reasons, strict=True)):
        raise ValueError("a failed document needs a reason")
    return pa.table(
        {
            "id": list(ids),
            "url": list(urls or [None] * n),
            "stage": [stage] * n,
            "verdict": [
                KEPT if reason is None else FAILED if is_failed else DROPPED
                for reason, is_failed in zip(reasons, failed, strict=True)
            ],
            "reason": list(reasons),
            "evidence": [
                None if item is None else json.dumps(item, sort_keys=True, ensure_ascii=False)
                for item in evidence or [None] * n
            ],
        },
        schema=LEDGER_SCHEMA,
    )
