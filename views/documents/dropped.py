"""What was dropped or failed, and why: samples of the ledger with the text they are about."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from textwrap import shorten, wrap
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import (
    VERDICTS_SUFFIX,
    Dataset,
    DatasetNotFoundError,
    IntegrityError,
    PartRef,
)
from infra.dataset.fingerprint import hash_to_unit
from infra.dataset.ledger import KEPT
from infra.dataset.tables import read_table
from infra.errors import UserError
from infra.removals.match import REMOVED
from infra.runs.run_records import RunRecord, StageRecord
from infra.store.storage import Storage
from views.documents.texts import (
    ACQUIRE,
    EXTRACT,
    Excerpt,
    load_raw_pages,
    load_texts,
    parse_evidence,
    sanitize_line,
)

# Parts that a sample of one reason is drawn from, and rows of a part that are compared for it:
# enough for variety, few enough that a corpus of any size is sampled in seconds.
MAX_PARTS, MAX_ROWS = 16, 2_000
TERMINAL_WIDTH, TERMINAL_EXCERPT_CHARS = 100, 380  # characters


class ReasonNotFoundError(UserError):
    """A stage or reason that the run does not have; the message lists those that exist."""


@dataclass(frozen=True)
class DroppedDocument:
    """A document that did not pass a stage.

    Attributes:
        id: the document's id.
        url: its address, where known.
        stage: the stage that spoke.
        source: the source it came from, where known.
        verdict: ``dropped`` (a rule said no) or ``failed`` (something broke).
        reason: the rule, or the kind of failure.
        evidence: what the verdict rests on: values and thresholds, or the error.
        part: the name of the ledger's part.
        row: the row in it.
        excerpt: the beginning of its text; ``None`` if there is none.
        raw: whether the excerpt is HTML as fetched.
    """

    id: str
    url: str | None
    stage: str
    source: str | None
    verdict: str
    reason: str
    evidence: Mapping[str, Any]
    part: str
    row: int
    excerpt: str | None = None
    raw: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "evidence": dict(self.evidence)}

    def to_text(self) -> str:
        """A few lines for a terminal."""
        where = f"{self.stage} {self.source}" if self.source else self.stage
        lines = [f"{self.reason}  ({self.verdict} by {where})", f"  {self.url or '(no address)'}"]
        said = ", ".join(f"{key} {value}" for key, value in self.evidence.items())
        lines.append(f"  id {self.id}" + (f"  {said}" if said else ""))
        if self.excerpt:
            flat = shorten(sanitize_line(self.excerpt), TERMINAL_EXCERPT_CHARS, placeholder=" ...")
            lines += wrap(flat, TERMINAL_WIDTH, initial_indent="  | ", subsequent_indent="  | ")
        return "\n".join(sanitize_line(line, keep_spaces=True) for line in lines)


def counts_by_reason(record: RunRecord) -> dict[str, dict[str, int]]:
    """How many documents each stage of a run dropped or failed, by reason, most frequent first."""
    found: dict[str, dict[str, int]] = {}
    for stage in record.stages:
        for reason, count in [*stage.counts.dropped.items(), *stage.counts.failed.items()]:
            tally = found.setdefault(stage.stage, {})
            tally[reason] = tally.get(reason, 0) + count
    return {
        stage: dict(sorted(tally.items(), key=lambda item: (-item[1], item[0])))
        for stage, tally in found.items()
    }


def sample_dropped(
    storage: Storage,
    record: RunRecord,
    stage: str | None = None,
    reason: str | None = None,
    n: int = 10,
) -> list[DroppedDocument]:
    """Samples of what a run dropped or failed, the same ones at every call.

    Args:
        storage: the root of the store.
        record: the run.
        stage: only of this stage.
        reason: only for this reason.
        n: how many in all; where several reasons qualify, they take turns.

    Raises:
        NoSuchDrop: if the run has no such stage, or nothing went for such a reason.
    """
    wanted = _matching_reasons(record, stage, reason)
    queues = [sample_reason(storage, record, one, why, n) for one, why in wanted]
    picked: list[DroppedDocument] = []
    for turn in range(n):
        picked.extend(queue[turn] for queue in queues if turn < len(queue))
    chosen = picked[:n]
    order = {pair: number for number, pair in enumerate(wanted)}
    chosen.sort(key=lambda drop: order[drop.stage, drop.reason])
    return with_text(storage, record, chosen)


def _matching_reasons(
    record: RunRecord, stage: str | None, reason: str | None
) -> list[tuple[str, str]]:
    there = counts_by_reason(record)
    stages = list(dict.fromkeys(item.stage for item in record.stages))
    if stage is not None and stage not in stages:
        raise ReasonNotFoundError(
            f"no stage {stage!r} in run {record.run}; it has {', '.join(stages)}"
        )
    chosen = there if stage is None else {stage: there.get(stage, {})}
    if reason is not None and not any(reason in tally for tally in chosen.values()):
        where = f"stage {stage!r}" if stage else f"run {record.run}"
        listed = "; ".join(f"{name}: {', '.join(tally)}" for name, tally in chosen.items() if tally)
        raise ReasonNotFoundError(
            f"nothing was dropped for {reason!r} in {where}; there is {listed or 'no drop at all'}"
        )
    return [(name, why) for name, tally in chosen.items() for why in tally if reason in (None, why)]


def sample_reason(
    storage: Storage, record: RunRecord, stage: str, reason: str, n: int
) -> list[DroppedDocument]:
    """At most n drops of one stage and reason, spread over parts; without excerpts."""
    holders = [
        (entry, part)
        for entry, data in _open_datasets(storage, record, stage)
        for part in data.parts
        if reason in part.record.counts.dropped or reason in part.record.counts.failed
    ]
    holders.sort(key=lambda item: hash_to_unit(stage, item[0].source or "", item[1].name))
    queues = [list(_sample_part(entry, part, reason, n)) for entry, part in holders[:MAX_PARTS]]
    found: list[DroppedDocument] = []
    for turn in range(n):
        found.extend(queue[turn] for queue in queues if turn < len(queue))
    return found[:n]


def _open_datasets(
    storage: Storage, record: RunRecord, stage: str
) -> Iterator[tuple[StageRecord, Dataset]]:
    for entry in record.stages:
        if entry.stage == stage:
            try:
                yield entry, entry.open(storage)
            except (DatasetNotFoundError, IntegrityError):
                continue


@lru_cache(maxsize=2 * MAX_PARTS)
def _read_ledger(storage: Storage, name: str, sha256: str) -> pa.Table:  # noqa: ARG001
    """A part's ledger, kept for the next reason; the digest tells one content from another."""
    return read_table(storage, name)


def _sample_part(
    entry: StageRecord, part: PartRef, reason: str, n: int
) -> Iterator[DroppedDocument]:
    ledger = part.record.files[VERDICTS_SUFFIX]
    table = _read_ledger(part.storage, ledger.name, ledger.sha256)
    table = table.append_column("row", pa.array(range(table.num_rows), pa.int64()))
    table = table.filter(
        pc.and_(pc.equal(table["reason"], reason), pc.not_equal(table["verdict"], KEPT))
    )
    step = max(1, table.num_rows // MAX_ROWS)
    table = table.take(list(range(0, table.num_rows, step)))
    keys = [
        (hash_to_unit(item, row), number)
        for number, (item, row) in enumerate(
            zip(table["id"].to_pylist(), table["row"].to_pylist(), strict=True)
        )
    ]
    chosen = [number for _, number in sorted(keys)[:n]]
    for row in table.take(pa.array(chosen, pa.int64())).to_pylist():
        yield DroppedDocument(
            id=row["id"],
            url=row["url"],
            stage=entry.stage,
            source=entry.source,
            verdict=row["verdict"],
            reason=row["reason"],
            evidence=parse_evidence(row["evidence"]),
            part=part.name,
            row=row["row"],
        )


def with_text(
    storage: Storage, record: RunRecord, documents: Sequence[DroppedDocument]
) -> list[DroppedDocument]:
    """The same drops with the beginnings of their texts, and what else the documents know.

    What was taken out on request is not quoted.
    """
    quoted = [drop for drop in documents if drop.reason != REMOVED]
    raw_ids = {drop.id for drop in quoted if drop.stage == EXTRACT}
    texts = {
        **load_raw_pages(storage, record, raw_ids),
        **load_texts(
            storage, record, {drop.id for drop in quoted if drop.stage not in (ACQUIRE, EXTRACT)}
        ),
    }
    return [
        drop if drop.reason == REMOVED else _add_excerpt(drop, texts.get(drop.id))
        for drop in documents
    ]


def _add_excerpt(document: DroppedDocument, excerpt: Excerpt | None) -> DroppedDocument:
    if excerpt is None:
        return document
    return replace(
        document,
        url=document.url or excerpt.url,
        source=document.source or excerpt.source,
        excerpt=excerpt.text,
        raw=excerpt.raw,
    )
