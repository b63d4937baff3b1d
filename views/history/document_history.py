"""A document's whole story: fetched, judged, cut into tokens, seen by models, with the evidence."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from textwrap import shorten, wrap
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import (
    TABLE_SUFFIX,
    VERDICTS_SUFFIX,
    Dataset,
    DatasetNotFoundError,
    IntegrityError,
    PartRef,
)
from infra.dataset.ledger import KEPT
from infra.formats.megatron import TRAIN
from infra.removals.log import REMOVALS_FOLDER, load_active_removals
from infra.removals.match import REMOVED, match_table
from infra.runs.run_records import (
    RunRecord,
    StageRecord,
    latest_run,
    list_recipes,
    with_earlier_results,
)
from infra.schemas.annotations import PII_COLUMNS
from infra.store.storage import Storage
from views.documents.lookup import find_documents
from views.documents.texts import (
    find_rows,
    has_column,
    load_texts,
    parse_evidence,
    read_rows,
    sanitize_line,
)
from views.removal.exposure import exposed_steps, exposed_via_models, load_exposure, parent_models

StepLookup = Callable[[Dataset, int, int], list[int]]

EXPOSED = "exposed"
RECORDED = "recorded"  # of a removal
MAX_ROWS = 20  # rows of one data set told for one id; identical rows of a source share theirs
MAX_MEMBERS = 10
TERMINAL_WIDTH, TERMINAL_EXCERPT_CHARS = 110, 400  # characters
DETAIL_COLUMNS = {
    "acquire": ("license",),
    "extract": ("license",),
    "annotate": ("language", "language_score", "words", "characters", "bytes", *PII_COLUMNS),
    "dedup": ("exact_group", "cluster", "cluster_size"),
    "select": ("language", "words", "cluster", "cluster_size"),
    "tokenize": ("split", "sequence", "tokens", "bytes", "offset"),
}


@dataclass(frozen=True)
class Event:
    """What one stage did with the document.

    Attributes:
        stage: the stage.
        path: its data set, relative to the storage root.
        part: the part that holds it.
        row: its row in the part's ledger.
        verdict: ``kept``, ``dropped`` or ``failed``; ``seen`` by a model; of a removal ``recorded``.
        reason: why it did not pass.
        evidence: what the verdict rests on.
        details: what the stage wrote about it: language, cluster, token range, steps.
    """

    stage: str
    path: str
    part: str | None
    row: int | None
    verdict: str
    reason: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunHistory:
    """A document's way through the latest run of one recipe."""

    recipe: str
    run: str
    id: str
    url: str | None
    source: str | None
    title: str | None
    excerpt: str | None
    events: Sequence[Event]

    @property
    def outcome(self) -> str:
        """One line: where the document is now."""
        judged = [item for item in self.events if item.verdict not in (EXPOSED, RECORDED)]
        if not judged:
            return "no stage has spoken of it"
        # Identical rows share their id: the document lives on if one of them does.
        last = [item for item in judged if item.stage == judged[-1].stage]
        gone = next((item for item in last if item.reason is not None), None)
        models = sorted({str(e.details.get("model")) for e in self.events if e.verdict == EXPOSED})
        seen = f", seen by {', '.join(models)}" if models else ""
        waits = any(item.verdict == RECORDED for item in self.events)
        if gone is not None and all(item.reason is not None for item in last):
            lifted = "; lifted since, the next run brings it back"
            back = lifted if (gone.stage, gone.reason) == ("select", REMOVED) and not waits else ""
            return f"{gone.verdict} by {gone.stage}: {gone.reason}{seen}{back}"
        removed = "; its removal is recorded, the next run applies it" if waits else ""
        return f"kept by {judged[-1].stage}{seen}{removed}"


@dataclass(frozen=True)
class DocumentHistory:
    """Every track of the documents that a query names."""

    query: str
    runs: Sequence[RunHistory]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        runs = [{**asdict(track), "outcome": track.outcome} for track in self.runs]
        return {"query": self.query, "runs": runs}

    def to_text(self) -> str:
        """The story for a terminal: a paragraph per track."""
        paragraphs = (
            [sanitize_line(line, keep_spaces=True) for line in _format_lines(t)] for t in self.runs
        )
        return "\n\n".join("\n".join(lines) for lines in paragraphs)


def document_history(
    storage: Storage, query: str, step_lookup: StepLookup | None = None
) -> DocumentHistory:
    """What became of a document in the latest run of every recipe of a store.

    Args:
        storage: the root of the store.
        query: an address (compared as written, then ignoring scheme, a trailing slash and such),
            a document id, or the beginning of one.
        step_lookup: ``step_lookup(train data set, first token, one past the last) -> training steps`` whose
            batches held any of these tokens of the train split; ``None``: not told.

    Raises:
        UnknownDocument: if no document matches, or the beginning fits several.
        NoRun: if the store has no run.
    """
    recipes = list_recipes(storage) or [latest_run(storage).recipe]
    records = [with_earlier_results(storage, latest_run(storage, recipe)) for recipe in recipes]
    found = find_documents(storage, records, query)
    tracks = [
        _run_history(storage, record, document.id, document.url, step_lookup)
        for record in records
        for document in found.get(record.recipe, ())
    ]
    return DocumentHistory(query, tracks)


def _run_history(
    storage: Storage,
    record: RunRecord,
    document: str,
    url: str | None,
    step_lookup: StepLookup | None,
) -> RunHistory:
    events: list[Event] = []
    source: str | None = None
    tokens: list[tuple[StageRecord, int, int]] = []
    for entry in record.stages:
        try:
            data = entry.open(storage)
        except (DatasetNotFoundError, IntegrityError):
            continue
        if entry.stage == "train":
            events += _exposure_events(storage, entry, data, tokens, step_lookup)
            continue
        spoken = _ledger_events(entry, data, document)
        if spoken and entry.source:
            source = entry.source
        events += spoken
        if entry.stage == "tokenize":
            tokens += _token_ranges(entry, data, spoken)
    text = load_texts(storage, record, [document]).get(document)
    events = _with_members(storage, record, document, events)
    events += _removal_events(storage, record, document, url, events)
    return RunHistory(
        record.recipe,
        record.run,
        document,
        url or (text.url if text else None),
        source or (text.source if text else None),
        text.title if text else None,
        text.text if text else None,
        events,
    )


def _ledger_events(entry: StageRecord, data: Dataset, document: str) -> list[Event]:
    """What a stage's ledger says of a document, with what its table holds about it."""
    events: list[Event] = []
    for part in data.parts:
        if VERDICTS_SUFFIX not in part.record.files or len(events) >= MAX_ROWS:
            continue
        rows = _find_ledger_rows(part, document)
        if not rows:
            continue
        details = _read_details(entry, data, part, document)
        kept = iter(details)
        for row, said in islice(rows, MAX_ROWS - len(events)):
            passed = said["verdict"] == KEPT
            events.append(
                Event(
                    entry.stage,
                    entry.path,
                    part.name,
                    row,
                    said["verdict"],
                    said["reason"],
                    parse_evidence(said["evidence"]),
                    next(kept, {}) if passed else {},
                )
            )
    return events


def _find_ledger_rows(part: PartRef, document: str) -> list[tuple[int, dict[str, Any]]]:
    name = part.file(VERDICTS_SUFFIX)
    with part.storage.open(name) as stream:
        ids = pq.read_table(stream, columns=["id"])["id"]
        rows = np.flatnonzero(pc.equal(ids, document).to_numpy()).tolist()
        if not rows:
            return []
        stream.seek(0)
        table = pq.read_table(stream, columns=["verdict", "reason", "evidence"])
    return list(zip(rows, table.take(pa.array(rows, pa.int64())).to_pylist(), strict=True))


def _read_details(
    entry: StageRecord, data: Dataset, part: PartRef, document: str
) -> list[dict[str, Any]]:
    """The columns worth telling of the document's rows, in their order."""
    columns = DETAIL_COLUMNS.get(entry.stage)
    if columns is None or TABLE_SUFFIX not in part.record.files or not has_column(part, "id"):
        return []
    found = []
    for row in read_rows(part, find_rows(part, [document]), columns):
        for name in PII_COLUMNS:
            if isinstance(row.get(name), list):
                row[name] = [span["kind"] for span in row[name]]
        if entry.stage == "tokenize":
            row.update(_split_token_range(data, part, row))
        found.append({key: value for key, value in row.items() if value not in (None, [])})
    return found


def _split_token_range(data: Dataset, part: PartRef, row: Mapping[str, Any]) -> dict[str, Any]:
    """Where the document's tokens lie in the whole split: shards follow each other by part."""
    size = np.dtype(str(data.stats.get("dtype", "uint16"))).itemsize
    shard = f"{row['split']}.bin"
    before = 0
    for other in data.parts:
        if other.name == part.name:
            break
        file = other.record.files.get(shard)
        before += file.bytes // size if file else 0
    first = before + int(row["offset"])
    file = part.record.files.get(shard)
    name = file.name if file else shard
    return {"shard": name, "first_token": first, "end_token": first + int(row["tokens"])}


def _token_ranges(
    entry: StageRecord, data: Dataset, events: Sequence[Event]
) -> list[tuple[StageRecord, int, int]]:
    return [
        (entry, int(item.details["first_token"]), int(item.details["end_token"]))
        for item in events
        if item.details.get("split") == TRAIN and data.stage == "tokenize"
    ]


def _exposure_events(
    storage: Storage,
    entry: StageRecord,
    data: Dataset,
    tokens: Sequence[tuple[StageRecord, int, int]],
    step_lookup: StepLookup | None,
) -> list[Event]:
    """At which steps a model saw the document's tokens, and through which models before it."""
    made_from = {item.get("fingerprint") for item in data.manifest.inputs}
    events = []
    try:
        older = parent_models(storage, data)
    except (DatasetNotFoundError, IntegrityError):
        older = []  # what they saw is told by the mark, if it was removed
    for shards, first, end in tokens:
        if shards.fingerprint not in made_from:
            continue
        details: dict[str, Any] = {"model": entry.entry}
        if step_lookup is not None:
            at = step_lookup(data, first, end)
            details |= {"times": len(at), "steps": at}
            through = [
                one.source
                for one in older
                if shards.fingerprint in {item.get("fingerprint") for item in one.manifest.inputs}
                and step_lookup(one, first, end)
            ]
            if through:
                details["via_models"] = through
            if not at and not through:
                continue
        events.append(Event("train", entry.path, None, None, EXPOSED, details=details))
    return events


def _removal_events(
    storage: Storage, record: RunRecord, document: str, url: str | None, events: Sequence[Event]
) -> list[Event]:
    """The removal that takes a document, and the models that saw it before."""
    entries = load_active_removals(storage, record.recipe)
    licenses = [event.details["license"] for event in events if "license" in event.details]
    row = {"id": [document], "url": [url], "license": licenses[:1] or [None]}
    place = int(match_table(pa.table(row), [entry.removal for entry in entries])[0])
    if place < 0:
        return []
    told = {event.path for event in events if event.verdict == EXPOSED}
    path = f"{REMOVALS_FOLDER}/{record.recipe}"
    said = {key: item for key, item in entries[place].to_json().items() if item is not None}
    found = [Event("remove", path, None, None, RECORDED, evidence=said)]
    for mark in load_exposure(storage, record.recipe):
        at = exposed_steps(storage, mark, document)
        if at is not None and mark.path not in told:
            details: dict[str, Any] = {"model": mark.model, "times": len(at), "steps": at}
            through = exposed_via_models(storage, mark, document)
            if through:
                details["via_models"] = through
            found.append(Event("train", mark.path, None, None, EXPOSED, details=details))
    return found


def _with_members(
    storage: Storage, record: RunRecord, document: str, events: Sequence[Event]
) -> list[Event]:
    """The same events; those of dedup name the other members of the document's cluster."""

    def told(event: Event) -> Event:
        cluster = event.details.get("cluster")
        if event.stage != "dedup" or cluster is None:
            return event
        data = next(item for item in record.stages if item.path == event.path).open(storage)
        others = _other_members(data, str(cluster), document)
        return replace(event, details={**event.details, "other_members": others})

    return [told(event) for event in events]


def _other_members(data: Dataset, cluster: str, document: str) -> list[str]:
    found: list[str] = []
    for part in data.parts:
        table = part.table(["id", "cluster"])
        found += table.filter(pc.equal(table["cluster"], cluster))["id"].to_pylist()
        if len(found) > MAX_MEMBERS:
            break
    return [item for item in found if item != document][:MAX_MEMBERS]


def _format_lines(history: RunHistory) -> Iterator[str]:
    yield history.url or history.title or history.id
    about = (
        history.title,
        history.source,
        f"id {history.id}",
        f"run {history.run} of {history.recipe}",
    )
    yield "  " + "  ".join(item for item in about if item)
    yield f"  -> {history.outcome}"
    for event in history.events:
        said = {**event.evidence, **event.details}
        words = [event.reason] if event.reason else []
        words += [f"{key} {_format_value(value)}" for key, value in said.items()]
        head = f"  {event.stage:<9} {event.verdict:<8} "
        if event.part is not None:
            head += f"part {event.part} row {event.row}: "
        yield from wrap(head + ", ".join(words), TERMINAL_WIDTH, subsequent_indent=" " * 21)
    if history.excerpt:
        flat = shorten(sanitize_line(history.excerpt), TERMINAL_EXCERPT_CHARS, placeholder=" ...")
        yield from wrap(flat, TERMINAL_WIDTH, initial_indent="  | ", subsequent_indent="  | ")


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        shown = " ".join(str(item) for item in value[:MAX_MEMBERS])
        return shown + (f" ... ({len(value)})" if len(value) > MAX_MEMBERS else "")
    return str(value)
