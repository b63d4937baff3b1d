"""History of one document: every stage's verdict, its token range, and the training steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from textwrap import shorten, wrap
from typing import Any

import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.ledger import KEPT
from infra.dataset.manifest import (
    TABLE_SUFFIX,
    VERDICTS_SUFFIX,
)
from infra.dataset.step import Step, Steps
from infra.formats.megatron import TRAIN, iter_split_parts
from infra.removals.match import REMOVED
from infra.runs.run_records import (
    RunRecord,
    StageRecord,
    latest_run,
    list_recipes,
    with_earlier_results,
)
from infra.store.storage import Storage
from views.documents.lookup import find_documents
from views.documents.texts import (
    column_names,
    find_rows,
    load_excerpts,
    parse_evidence,
    read_rows,
    sanitize_line,
)
from views.history.event import EXPOSED, HELD_OUT, RECORDED, Event
from views.history.exposure_events import (
    TokenRange,
    example_events,
    exposure_events,
    removal_events,
)

MAX_ROWS = 20  # rows of one data set per id; identical rows of a source share their id
MAX_MEMBERS = 10
TERMINAL_WIDTH, TERMINAL_EXCERPT_CHARS = 110, 400  # characters


@dataclass(frozen=True)
class RunHistory:
    """The history of a document in the latest run of one recipe."""

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
        """One line: the last verdict, the models trained on it, and a pending removal."""
        others = (EXPOSED, HELD_OUT, RECORDED)
        verdicts = [event for event in self.events if event.verdict not in others]
        if not verdicts:
            return "no stage has a verdict on it"
        stage = verdicts[-1].stage
        # Identical rows share their id: the document is kept if one of them is.
        last = [event for event in verdicts if event.stage == stage]
        models = sorted({str(e.details.get("model")) for e in self.events if e.verdict == EXPOSED})
        exposed = f", trained on by {', '.join(models)}" if models else ""
        pending = any(event.verdict == RECORDED for event in self.events)
        if all(event.reason is not None for event in last):
            restored = last[0].reason == REMOVED and not pending
            suffix = "; restored since, the next run brings it back" if restored else ""
            return f"{last[0].verdict} by {stage}: {last[0].reason}{exposed}{suffix}"
        suffix = "; its removal is recorded, the next run applies it" if pending else ""
        return f"kept by {stage}{exposed}{suffix}"


@dataclass(frozen=True)
class DocumentHistory:
    """The histories of the documents that a query names, one per recipe and document."""

    query: str
    runs: Sequence[RunHistory]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        runs = [{**asdict(run), "outcome": run.outcome} for run in self.runs]
        return {"query": self.query, "runs": runs}

    def to_text(self) -> str:
        """Format the histories for a terminal, a paragraph each."""
        paragraphs = (
            [sanitize_line(line, keep_spaces=True) for line in _format_lines(run)]
            for run in self.runs
        )
        return "\n\n".join("\n".join(lines) for lines in paragraphs)


def document_history(storage: Storage, query: str, steps: Steps) -> DocumentHistory:
    """Collect what the latest run of every recipe of a store did with a document.

    Args:
        storage: the root of the store.
        query: a URL or an id, as for `views.documents.lookup.search`.
        steps: the pipeline.

    Raises:
        DocumentNotFoundError: if no document matches, or several ids begin with the query.
        RunNotFoundError: if the store has no run.
    """
    recipes = list_recipes(storage) or [latest_run(storage).recipe]
    records = [with_earlier_results(storage, latest_run(storage, recipe)) for recipe in recipes]
    documents = find_documents(storage, records, query, steps)
    runs = [
        _run_history(storage, record, document.id, document.url, steps)
        for record in records
        for document in documents.get(record.recipe, ())
    ]
    return DocumentHistory(query, runs)


def _run_history(
    storage: Storage, record: RunRecord, document: str, url: str | None, steps: Steps
) -> RunHistory:
    by_name = {step.name: step for step in steps}
    events: list[Event] = []
    source: str | None = None
    ranges: list[TokenRange] = []
    for entry in record.stages:
        step, data = by_name.get(entry.stage), entry.try_open(storage)
        if step is None or data is None or step.output == "index":
            continue  # an index says of a document what its token shards say
        if step.makes_model:
            events += exposure_events(storage, entry, data, ranges, steps)
            events += example_events(entry, data, document, events)
            continue
        own = _ledger_events(step, entry, data, document)
        if step.output == "duplicate_labels":
            own = [_with_other_members(event, data, document) for event in own]
        if step.output == "tokens":
            ranges += [
                TokenRange(
                    data.fingerprint, event.details["first_token"], event.details["end_token"]
                )
                for event in own
                if event.details.get("split") == TRAIN
            ]
        if own and entry.source:
            source = entry.source
        events += own
    excerpt = load_excerpts(storage, record, [document], steps).get(document)
    events += removal_events(storage, record, document, url, events)
    return RunHistory(
        record.recipe,
        record.run,
        document,
        url or (excerpt.url if excerpt else None),
        source or (excerpt.source if excerpt else None),
        excerpt.title if excerpt else None,
        excerpt.text if excerpt else None,
        events,
    )


def _ledger_events(
    step: Step[...], entry: StageRecord, data: Dataset, document: str
) -> list[Event]:
    """Return a stage's verdicts on a document, with what its table holds about it."""
    events: list[Event] = []
    for part in data.parts:
        if VERDICTS_SUFFIX not in part.record.files or len(events) >= MAX_ROWS:
            continue
        rows = find_rows(part, [document], VERDICTS_SUFFIX)[: MAX_ROWS - len(events)]
        if not rows:
            continue
        details = iter(_read_details(step, data, part, document))
        verdicts = read_rows(part, rows, ("verdict", "reason", "evidence"), VERDICTS_SUFFIX)
        for row, verdict in zip(rows, verdicts, strict=True):
            evidence = parse_evidence(verdict.pop("evidence"))
            own = next(details, {}) if verdict["verdict"] == KEPT else {}
            events.append(
                Event(
                    entry.stage,
                    entry.path,
                    part.name,
                    row,
                    **verdict,
                    evidence=evidence,
                    details=own,
                )
            )
    return events


def _read_details(
    step: Step[...], data: Dataset, part: PartRef, document: str
) -> list[dict[str, Any]]:
    """Read the columns that describe a document to a reader, for each of its rows."""
    if not step.columns or TABLE_SUFFIX not in part.record.files or "id" not in column_names(part):
        return []
    details = []
    for row in read_rows(part, find_rows(part, [document]), step.columns):
        for name, value in row.items():
            if isinstance(value, list):  # spans of personal data: their kinds say enough
                row[name] = [span["kind"] for span in value]
        if step.output == "tokens":
            row.update(_split_token_range(data, part, row))
        details.append({key: value for key, value in row.items() if value not in (None, [])})
    return details


def _split_token_range(data: Dataset, part: PartRef, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document's shard and the range of its tokens in the whole split."""
    split = str(row["split"])
    before = next(n for other, n in iter_split_parts(data, split) if other.name == part.name)
    first = before + int(row["offset"])
    return {
        "shard": part.file(f"{split}.bin"),
        "first_token": first,
        "end_token": first + int(row["tokens"]),
    }


def _with_other_members(event: Event, data: Dataset, document: str) -> Event:
    """Add the other members of the document's duplicate cluster."""
    cluster = event.details.get("cluster")
    if cluster is None:
        return event
    members: list[str] = []
    for part in data.parts:
        table = part.table(["id", "cluster"])
        members += table.filter(pc.equal(table["cluster"], cluster))["id"].to_pylist()
        if len(members) > MAX_MEMBERS:
            break
    others = [member for member in members if member != document][:MAX_MEMBERS]
    return replace(event, details={**event.details, "other_members": others})


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
        values = {**event.evidence, **event.details}
        words = [event.reason] if event.reason else []
        words += [f"{key} {_format_value(value)}" for key, value in values.items()]
        parts = [] if event.part is None else [f"part {event.part} row {event.row}"]
        text = ": ".join(parts + ([", ".join(words)] if words else []))
        head = f"  {event.stage:<9} {event.verdict:<8} {text}"
        yield from wrap(head, TERMINAL_WIDTH, subsequent_indent=" " * 21)
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
