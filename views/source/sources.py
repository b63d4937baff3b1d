"""Find the runs of a text that stand in the training data, with their documents and training steps."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from infra.dataset.dataset import Dataset
from infra.dataset.manifest import DatasetNotFoundError
from infra.dataset.step import Steps, steps_with_output
from infra.errors import UserError
from infra.runs.run_records import (
    RunRecord,
    latest_run,
    list_recipes,
    with_earlier_results,
)
from infra.store.storage import Storage
from infra.suffix_array.source_index import Occurrence, SourceIndex
from views.history.training_data import TracedRun, TraceError, run_from_model

MIN_TOKENS = 8  # shorter runs of tokens are mostly phrases that anybody writes
MAX_PLACES = 5


class NoIndexError(UserError):
    """No run of the store has an index of its training data."""


@dataclass(frozen=True)
class Place:
    """A training document in which a passage stands.

    Attributes:
        offset: the passage's first token, counted from the document's.
        steps: by model, the training steps whose rows held tokens of the passage there.
    """

    id: str | None
    url: str | None
    source: str | None
    license: str | None
    offset: int
    steps: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Passage:
    """A run of the text that stands word for word in the training data, and is not part of a longer one.

    Attributes:
        start: its first character in the text.
        end: one past its last.
        num_tokens: its length in tokens.
        count: how often it occurs in the training data.
        places: the first of these.
    """

    start: int
    end: int
    text: str
    num_tokens: int
    count: int
    places: Sequence[Place]


@dataclass(frozen=True)
class TextSources:
    """What the training data of a recipe's latest run holds of a text.

    Attributes:
        path: the index, relative to the storage root.
        longest: tokens of the longest run, even if it is shorter than what was asked for.
    """

    recipe: str
    run: str
    path: str
    min_tokens: int
    longest: int
    passages: Sequence[Passage]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def find_sources(
    storage: Storage,
    text: str,
    steps: Steps,
    recipe: str | None = None,
    min_tokens: int = MIN_TOKENS,
    limit: int = MAX_PLACES,
) -> list[TextSources]:
    """Look a text up in the training data of the latest run of every recipe, or of one.

    Args:
        storage: the root of the store.
        text: of any length.
        steps: the pipeline.
        recipe: its name; by default all of the store's.
        min_tokens: shorter runs are left out.
        limit: places shown of each passage.

    Raises:
        NoIndexError: if no run has an index.
        RunNotFoundError: if the store has no run, or none of this recipe.
    """
    names = [recipe] if recipe else list_recipes(storage) or [latest_run(storage).recipe]
    stages = steps_with_output(steps, "index")
    result = []
    for name in names:
        record = with_earlier_results(storage, latest_run(storage, name))
        for entry in record.stages:
            data = entry.try_open(storage) if entry.stage in stages else None
            if data is None:
                continue
            runs = list(_training_runs(storage, record, data, steps))
            index = SourceIndex(data)
            longest, passages = find_passages(index, runs, text, min_tokens, limit)
            result.append(
                TextSources(record.recipe, record.run, entry.path, min_tokens, longest, passages)
            )
    if not result:
        raise NoIndexError(
            f"{storage.url}: the latest run of {', '.join(names)} has no index of its training data; "
            "`gristmill run RECIPE --until index` builds it"
        )
    return result


def _training_runs(
    storage: Storage, record: RunRecord, index: Dataset, steps: Steps
) -> Iterator[TracedRun]:
    """Yield the record's models that were trained in steps on the index's token shards."""
    [tokens] = index.manifest.inputs
    stages = steps_with_output(steps, "model")
    for entry in record.stages:
        model = entry.try_open(storage) if entry.stage in stages else None
        if model is None or tokens not in model.manifest.inputs:
            continue
        try:
            yield run_from_model(model, entry.path)
        except (TraceError, DatasetNotFoundError):
            continue  # counted, not trained in steps; or its token shards were deleted


def find_passages(
    index: SourceIndex, runs: Sequence[TracedRun], text: str, min_tokens: int, limit: int
) -> tuple[int, list[Passage]]:
    """Return the length of the longest run of tokens, and the passages of a text in its order.

    A word has other tokens at the beginning of a text than after a space, so the text is looked up in
    both ways.
    """
    tokenizer = Tokenizer.from_buffer(index.tokenizer)
    found: dict[tuple[int, int], Passage] = {}
    longest = 0
    for before in ("", " "):
        encoding = tokenizer.encode(before + text, add_special_tokens=False)
        ids = np.array(encoding.ids, np.int64)
        for span in index.find_spans(ids, min_tokens=1):
            length = span.end - span.start
            longest = max(longest, length)
            if length < min_tokens:
                continue
            start = max(0, encoding.offsets[span.start][0] - len(before))
            end = encoding.offsets[span.end - 1][1] - len(before)
            count, places = index.find_occurrences(ids[span.start : span.end], limit)
            start += len(text[start:end]) - len(text[start:end].lstrip())
            if (start, end) not in found:
                shown = [_place(place, length, runs) for place in places]
                found[start, end] = Passage(start, end, text[start:end], length, count, shown)
    passages, longest_end = [], 0
    for start, end in sorted(found, key=lambda bounds: (bounds[0], -bounds[1])):
        if end > longest_end:
            passages.append(found[start, end])
            longest_end = end
    return longest, passages


def _place(occurrence: Occurrence, length: int, runs: Sequence[TracedRun]) -> Place:
    first = occurrence.first_token
    steps = {
        run.name: sorted(run.sampler.steps_containing(first, first + length, run.steps))
        for run in runs
    }
    return Place(**occurrence.document, offset=occurrence.offset, steps=steps)
