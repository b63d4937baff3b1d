"""The models that were trained or validated on a document or an example, and its removal, as events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset
from infra.dataset.manifest import DatasetNotFoundError, IntegrityError
from infra.dataset.step import Steps
from infra.formats.megatron import TRAIN
from infra.removals.examples import match_examples
from infra.removals.log import REMOVALS_FOLDER, load_active_removals
from infra.runs.run_records import RunRecord, StageRecord
from infra.schemas.examples import EXAMPLES_FILE, SOURCE
from infra.store.storage import Storage
from views.history.event import EXPOSED, HELD_OUT, RECORDED, REMOVE, Event
from views.removal.examples import read_examples_file
from views.removal.exposure import (
    exposed_steps,
    load_exposed_steps,
    load_exposure,
    parent_models,
)


@dataclass(frozen=True)
class TokenRange:
    """The tokens of the document in the training split of a data set of token shards."""

    fingerprint: str
    first: int
    end: int


def exposure_events(
    storage: Storage,
    entry: StageRecord,
    model: Dataset,
    ranges: Sequence[TokenRange],
    steps: Steps,
) -> list[Event]:
    """Return the steps in which a model, or one of its parents, was trained on the document."""
    inputs = _input_fingerprints(model)
    try:
        parents = parent_models(storage, model, steps)
    except (DatasetNotFoundError, IntegrityError):
        parents = []  # if the document was removed, the exposure record lists them
    events = []
    for tokens in ranges:
        is_own = (
            tokens.fingerprint in inputs
        )  # a fine-tuned model reads documents via its base only
        exposed = exposed_steps(model, tokens.first, tokens.end) if is_own else []
        via_models = [
            parent.source
            for parent in parents
            if tokens.fingerprint in _input_fingerprints(parent)
            and exposed_steps(parent, tokens.first, tokens.end)
        ]
        if exposed or via_models:
            details = _exposure_details(entry.entry, exposed, via_models)
            events.append(Event(entry.stage, entry.path, None, None, EXPOSED, details=details))
    return events


def example_events(
    entry: StageRecord, model: Dataset, document: str, events: Sequence[Event]
) -> list[Event]:
    """Return whether a fine-tuned model was trained or validated on an example."""
    is_example = any(event.details.get("file") for event in events)
    if not is_example or EXAMPLES_FILE not in model.manifest.files:
        return []
    splits = {row["split"] for row in read_examples_file(model) if row["id"] == document}
    return [
        Event(
            entry.stage,
            entry.path,
            None,
            None,
            EXPOSED if split == TRAIN else HELD_OUT,
            details={"model": entry.entry, "split": split},
        )
        for split in sorted(splits)
    ]


def _input_fingerprints(data: Dataset) -> set[str]:
    return {item["fingerprint"] for item in data.manifest.inputs}


def _exposure_details(
    model: str | None, steps: Sequence[int], via_models: Sequence[str | None]
) -> dict[str, Any]:
    details: dict[str, Any] = {"model": model, "times": len(steps), "steps": list(steps)}
    if via_models:
        details["via_models"] = list(via_models)
    return details


def removal_events(
    storage: Storage,
    record: RunRecord,
    document: str,
    url: str | None,
    events: Sequence[Event],
) -> list[Event]:
    """Return the active removal of a document, and the models of earlier runs trained on it."""
    active = load_active_removals(storage, record.recipe)
    known = dict.fromkeys(SOURCE.names)
    for event in events:
        known |= {name: event.details[name] for name in known if name in event.details}
    row = {"id": document, **known, "url": known["url"] or url}
    columns = {name: pa.array([value], pa.string()) for name, value in row.items()}
    index = int(match_examples(pa.table(columns), [entry.removal for entry in active])[0])
    if index < 0:
        return []
    path = f"{REMOVALS_FOLDER}/{record.recipe}"
    evidence = {key: value for key, value in active[index].to_json().items() if value is not None}
    result = [Event(REMOVE, path, None, None, RECORDED, evidence=evidence)]
    listed = {event.path for event in events if event.verdict == EXPOSED}
    for exposure in load_exposure(storage, record.recipe):
        exposed = load_exposed_steps(storage, exposure, document)
        if exposed is None or exposure.path in listed:
            continue
        at, parents, splits = exposed
        verdict, details = HELD_OUT, {"model": exposure.model}
        if TRAIN in splits:
            verdict, details = EXPOSED, _exposure_details(exposure.model, at, parents)
        result.append(
            Event(exposure.path.split("/")[0], exposure.path, None, None, verdict, details=details)
        )
    return result
