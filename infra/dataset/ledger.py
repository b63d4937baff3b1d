"""The ledger: the verdict of every stage on every document, as rows beside the data."""

import json
from collections.abc import Mapping, Sequence
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
    why = list(reasons) if reasons is not None else [None] * n
    broke = list(failed) if failed is not None else [False] * n
    if any(bad and reason is None for bad, reason in zip(broke, why, strict=True)):
        raise ValueError("a failed document needs a reason")
    return pa.table(
        {
            "id": pa.array(list(ids), pa.string()),
            "url": pa.array(list(urls) if urls is not None else [None] * n, pa.string()),
            "stage": pa.array([stage] * n, pa.string()),
            "verdict": pa.array(
                [
                    KEPT if reason is None else FAILED if bad else DROPPED
                    for reason, bad in zip(why, broke, strict=True)
                ],
                pa.string(),
            ),
            "reason": pa.array(why, pa.string()),
            "evidence": pa.array(
                [
                    None if item is None else json.dumps(item, sort_keys=True, ensure_ascii=False)
                    for item in (evidence if evidence is not None else [None] * n)
                ],
                pa.string(),
            ),
        },
        schema=LEDGER_SCHEMA,
    )
