"""Samples of dropped and failed documents, with reason, evidence and the beginning of the text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice
from textwrap import shorten, wrap
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import PartRef, name_damage
from infra.dataset.fingerprint import hash_to_unit
from infra.dataset.ledger import KEPT
from infra.dataset.manifest import VERDICTS_SUFFIX
from infra.dataset.step import Steps
from infra.dataset.tables import read_table
from infra.errors import UserError
from infra.removals.match import REMOVED
from infra.runs.run_records import RunRecord, StageRecord
from infra.store.storage import Storage
from views.documents.texts import find_removed, load_excerpts, parse_evidence, sanitize_line

# Parts that the sample of one reason is drawn from, and rows of a part considered for it: enough
# for variety, few enough to sample a corpus of any size in seconds.
MAX_PARTS, MAX_ROWS = 16, 2_000
TERMINAL_WIDTH, TERMINAL_EXCERPT_CHARS = 100, 380  # characters


class ReasonNotFoundError(UserError):
    """The run has no such stage or reason; the message lists the existing ones."""


@dataclass(frozen=True)
class DroppedDocument:
    """A document that did not pass a stage.

    Attributes:
        verdict: ``dropped`` (by a rule) or ``failed`` (by an error).
        reason: the rule, or the kind of failure.
        evidence: the values and thresholds that the verdict is based on, or the error.
        part: the name of the ledger's part.
        row: its row in that part.
        excerpt: the beginning of its text; of its HTML as fetched if ``raw``.
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
        """Format the document as a few lines for a terminal."""
        stage = f"{self.stage} {self.source}" if self.source else self.stage
        lines = [f"{self.reason}  ({self.verdict} by {stage})", f"  {self.url or '(no URL)'}"]
        evidence = ", ".join(f"{key} {value}" for key, value in self.evidence.items())
        lines.append(f"  id {self.id}" + (f"  {evidence}" if evidence else ""))
        if self.excerpt:
            flat = shorten(sanitize_line(self.excerpt), TERMINAL_EXCERPT_CHARS, placeholder=" ...")
            lines += wrap(flat, TERMINAL_WIDTH, initial_indent="  | ", subsequent_indent="  | ")
        return "\n".join(sanitize_line(line, keep_spaces=True) for line in lines)


def counts_by_reason(record: RunRecord) -> dict[str, dict[str, int]]:
    """Count the dropped and failed documents of each stage by reason, most frequent first."""
    by_stage: dict[str, Counter[str]] = {}
    for entry in record.stages:
        for counts in filter(None, (entry.counts.dropped, entry.counts.failed)):
            by_stage.setdefault(entry.stage, Counter()).update(counts)
    return {
        stage: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        for stage, counts in by_stage.items()
    }


def sample_dropped(
    storage: Storage,
    record: RunRecord,
    steps: Steps,
    stage: str | None = None,
    reason: str | None = None,
    n: int = 10,
) -> list[DroppedDocument]:
    """Sample what a run dropped or failed; every call returns the same documents.

    Args:
        storage: the root of the store.
        record: the run.
        steps: the pipeline.
        stage: only documents of this stage.
        reason: only documents with this reason.
        n: how many documents in all; if several reasons qualify, they take turns.

    Raises:
        ReasonNotFoundError: if the run has no such stage, or no document with such a reason.
    """
    wanted = _matching_reasons(record, stage, reason)
    samples = _take_turns([sample_reason(storage, record, *pair, n) for pair in wanted], n)
    order = {pair: index for index, pair in enumerate(wanted)}
    samples.sort(key=lambda document: order[document.stage, document.reason])
    return with_text(storage, record, samples, steps)


def _take_turns(queues: Sequence[Sequence[DroppedDocument]], n: int) -> list[DroppedDocument]:
    """Return n documents: the first of each queue, then the second of each, and so on."""
    turns = (queue[turn] for turn in range(n) for queue in queues if turn < len(queue))
    return list(islice(turns, n))


def _matching_reasons(
    record: RunRecord, stage: str | None, reason: str | None
) -> list[tuple[str, str]]:
    counts = counts_by_reason(record)
    stages = list(dict.fromkeys(item.stage for item in record.stages))
    if stage is not None and stage not in stages:
        raise ReasonNotFoundError(
            f"no stage {stage!r} in run {record.run}; it has {', '.join(stages)}"
        )
    chosen = counts if stage is None else {stage: counts.get(stage, {})}
    if reason is not None and not any(reason in reasons for reasons in chosen.values()):
        where = f"stage {stage!r}" if stage else f"run {record.run}"
        listed = "; ".join(
            f"{name}: {', '.join(reasons)}" for name, reasons in chosen.items() if reasons
        )
        raise ReasonNotFoundError(
            f"no document has the reason {reason!r} in {where}; "
            + (f"the reasons are {listed}" if listed else "nothing was dropped")
        )
    return [
        (name, item)
        for name, reasons in chosen.items()
        for item in reasons
        if reason in (None, item)
    ]


def sample_reason(
    storage: Storage, record: RunRecord, stage: str, reason: str, n: int
) -> list[DroppedDocument]:
    """Return at most n documents of one stage and reason, spread over parts; without excerpts."""
    parts = [
        (entry, part)
        for entry in record.stages
        if entry.stage == stage and (data := entry.try_open(storage)) is not None
        for part in data.parts
        if reason in part.record.counts.dropped or reason in part.record.counts.failed
    ]
    parts.sort(key=lambda item: hash_to_unit(stage, item[0].source or "", item[1].name))
    return _take_turns(
        [list(_sample_part(entry, part, reason, n)) for entry, part in parts[:MAX_PARTS]], n
    )


@lru_cache(maxsize=2 * MAX_PARTS)
def _read_ledger(storage: Storage, name: str, sha256: str) -> pa.Table:  # noqa: ARG001
    """Read a part's ledger; cached for the next reason, with the digest as a part of the key."""
    with name_damage(storage, name):
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
    rows = table.take(list(range(0, table.num_rows, step))).to_pylist()
    for row in sorted(rows, key=lambda row: hash_to_unit(row["id"], row["row"]))[:n]:
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
    storage: Storage, record: RunRecord, documents: Iterable[DroppedDocument], steps: Steps
) -> list[DroppedDocument]:
    """Add the beginnings of the texts, and the URL and source where the document knows them.

    Documents that were removed on request are not quoted, whatever they were dropped for. A document
    that was dropped while its text was extracted is quoted as fetched.

    Raises:
        CorruptRemovalLogError: if a record of removals cannot be read.
    """
    documents = list(documents)
    by_name = {step.name: step for step in steps}
    removed = find_removed(storage, record, {item.id: item.url for item in documents}, steps)
    removed |= {document.id for document in documents if document.reason == REMOVED}
    raw_ids, text_ids = set(), set()
    for document in documents:
        step = by_name.get(document.stage)
        if step is None or document.id in removed:
            continue
        if step.output != "documents":
            text_ids.add(document.id)
        elif step.inputs:
            raw_ids.add(document.id)
    excerpts = {
        **load_excerpts(storage, record, raw_ids, steps, raw=True),
        **load_excerpts(storage, record, text_ids, steps),
    }
    for index, document in enumerate(documents):
        excerpt = excerpts.get(document.id)
        if excerpt is not None:
            documents[index] = replace(
                document,
                url=document.url or excerpt.url,
                source=document.source or excerpt.source,
                excerpt=excerpt.text,
                raw=excerpt.raw,
            )
    return documents
