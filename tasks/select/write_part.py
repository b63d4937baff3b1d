"""One part of the corpus: the documents that are kept, edited, and a verdict for every document."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import I16
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import PartResult
from infra.dataset.tables import table_bytes
from infra.removals.match import REMOVED
from infra.schemas.annotations import PII_COLUMNS
from infra.schemas.text_digests import DIGESTS_SUFFIX, digest_texts
from tasks.select.config import SourceFilters
from tasks.select.part_inputs import PartInputs
from tasks.select.pii_mask import edit_documents
from tasks.select.rules import PASSED, evidence_columns, rule_evidence, rule_reasons

STAGE = "select"


def write_corpus_part(
    inputs: PartInputs,
    filters: SourceFilters,
    failed_rule: I16,
    dropped: Mapping[str, Mapping[str, Any]],
    trimmed: Mapping[str, Mapping[str, Any]],
) -> Iterator[PartResult]:
    """Yield the corpus of one part.

    Args:
        inputs: the part.
        filters: of its source.
        failed_rule: see `tasks.select.eligibility`.
        dropped: by row of the documents' part, as text: ``reason`` and ``evidence`` of a document
            that was removed or dropped in favor of another.
        trimmed: likewise, ``cuts`` in characters and ``evidence`` of a document that is kept with
            less text.
    """
    table = inputs.read_annotated(inputs.documents)
    rows = np.arange(table.num_rows) if inputs.annotated_rows is None else inputs.annotated_rows
    part_rows = [str(row) for row in rows.tolist()]
    failed = failed_rule[rows].tolist()
    rule_names = rule_reasons(filters)
    names = {"language", "language_score", "words"}
    names |= evidence_columns(filters, {rule_names[rule] for rule in failed if rule != PASSED})
    if filters.pii == "mask":
        names.update(PII_COLUMNS)
    annotations = inputs.annotations.table(sorted(names)).combine_chunks()
    reasons: list[str | None] = [None] * table.num_rows
    evidence: list[Mapping[str, Any] | None] = [None] * table.num_rows
    for row, (part_row, rule) in enumerate(zip(part_rows, failed, strict=True)):
        verdict = dropped.get(part_row)
        if rule != PASSED and (verdict is None or verdict["reason"] != REMOVED):
            reasons[row] = rule_names[rule]
            evidence[row] = rule_evidence(annotations, filters, row, rule_names[rule])
        elif verdict is not None:
            reasons[row], evidence[row] = verdict["reason"], verdict["evidence"]
    keep = np.array([reason is None for reason in reasons], bool)
    kept = table if keep.all() else table.filter(keep)
    kept_rows = np.flatnonzero(keep).tolist()
    cuts: dict[int, Any] = {}
    for index, row in enumerate(kept_rows):
        trim = trimmed.get(part_rows[row])
        if trim is not None:
            cuts[index], evidence[row] = trim["cuts"], trim["evidence"]
    spans = annotations.filter(keep) if filters.pii == "mask" else None
    kept, masked_kinds = edit_documents(kept, spans, cuts)
    for row, masked in zip(kept_rows, masked_kinds, strict=True):
        if masked:
            evidence[row] = {**(evidence[row] or {}), "masked": masked}
    labels = inputs.read_annotated(inputs.duplicate_labels, ["cluster", "cluster_size"])
    for name in ("language", "language_score", "words"):
        kept = kept.append_column(name, annotations[name].filter(keep))
    for name in ("cluster", "cluster_size"):
        kept = kept.append_column(name, labels[name].filter(keep))
    ids, urls = table["id"].to_pylist(), table["url"].to_pylist()
    ledger = ledger_table(STAGE, ids, urls=urls, reasons=reasons, evidence=evidence)
    digests: pa.Table = digest_texts(kept["text"])
    yield PartResult(kept, ledger, {DIGESTS_SUFFIX: table_bytes(digests)})
