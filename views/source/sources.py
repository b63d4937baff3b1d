"""Find the runs of a text that stand in the training data, with their documents and training steps."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tokenizers import Tokenizer

from infra.dataset.dataset import Dataset
from infra.dataset.step import Steps, steps_with_output
from infra.errors import UserError
from infra.runs.run_records import (
    RunRecord,
    latest_run,
    list_recipes,
    with_earlier_results,
)
from infra.store.storage import Storage
from infra.suffix_array.source_index import SourceIndex
from views.history.training_data import TracedRun, trace_if_in_steps
from views.source.passages import MAX_PLACES, MIN_TOKENS, Passage, PassageTracker


class NoIndexError(UserError):
    """No run of the store has an index of its training data."""


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
            tokenizer = Tokenizer.from_buffer(index.tokenizer)
            tracker = PassageTracker(index, tokenizer, runs, min_tokens, limit)
            passages = tracker.passages(text)
            sources = TextSources(
                record.recipe, record.run, entry.path, min_tokens, tracker.longest, passages
            )
            result.append(sources)
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
        if (run := trace_if_in_steps(model, entry.path)) is not None:
            yield run
