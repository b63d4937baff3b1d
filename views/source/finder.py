"""The sources of what a released model writes, while it writes.

The model's folder in the store is a data set whose manifest names what it was made from: the model, those it was
initialized or fine-tuned from, the token shards. The index of the same token shards has the documents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.dataset.manifest import DatasetNotFoundError, input_path
from infra.dataset.step import Steps, steps_with_output
from infra.store.storage import Storage
from infra.suffix_array.source_index import SourceIndex
from views.history.training_data import TracedRun, trace_if_in_steps
from views.removal.examples import find_input
from views.removal.exposure import parent_models
from views.source.passages import Passage, PassageTracker
from views.source.removed import RemovedDocuments
from views.source.sources import NoIndexError


@dataclass(frozen=True)
class SourceFinder:
    """The index of a model's training data, open, and the models whose steps are told.

    Attributes:
        index: files are mapped, not read.
        runs: the model, if it was trained in steps on documents, and those that it comes from.
        removed: documents that are not named.
    """

    index: SourceIndex
    tokenizer: Tokenizer
    runs: Sequence[TracedRun]
    removed: RemovedDocuments

    def track(self) -> "SourceTracker":
        """Return a tracker for a new text."""
        return SourceTracker(
            PassageTracker(self.index, self.tokenizer, self.runs, removed=self.removed)
        )


@dataclass
class SourceTracker:
    """Follows one text as it grows."""

    passages: PassageTracker
    _known: list[Passage] = field(default_factory=list)

    def update(self, text: str, *, final: bool = False) -> dict[str, Any] | None:
        """Look up the text so far.

        Args:
            text: begins with what was given before.
            final: nothing will be added to it, and there is an answer in any case.

        Returns:
            ``first``: so many passages stay as they were. ``passages``: replace all others. ``longest``: tokens
            of the longest run. ``min_tokens``: of a passage. ``None`` if no passage changed.
        """
        passages = self.passages.passages(text)
        common = zip(passages, self._known, strict=False)
        first = next((n for n, (new, old) in enumerate(common) if new != old), None)
        if first is None:
            first = min(len(passages), len(self._known))
        is_same = first == len(passages) == len(self._known)
        self._known = passages
        if is_same and not final:
            return None
        return {
            "first": first,
            "passages": [passage.to_json() for passage in passages[first:]],
            "longest": self.passages.longest,
            "min_tokens": self.passages.min_tokens,
        }


def open_finder(
    storage: Storage, export: str, steps: Steps, removed: RemovedDocuments
) -> SourceFinder:
    """Open the index of the training data of a released model.

    Args:
        storage: the root of the store.
        export: the model's folder, relative to the root (``Version.export``).
        steps: the pipeline.
        removed: documents that are not named.

    Raises:
        NoIndexError: if there is no index of its training data; the message says why.
    """
    released = try_open_dataset(storage, export)
    model = None if released is None else _input_model(storage, released, steps)
    if model is None:
        raise NoIndexError(f"{storage.url}/{export} was not released from a model of this store")
    try:
        models = [model, *parent_models(storage, model, steps)]
    except DatasetNotFoundError as error:
        raise NoIndexError(f"{error}: a model that it was trained from is missing") from None
    tokens = next((path for item in models if (path := find_input(item, steps, "tokens"))), None)
    if tokens is None:
        raise NoIndexError(f"{model.source} was not trained on documents of this store")
    index = _find_index(storage, tokens, steps)
    if index is None:
        raise NoIndexError(
            f"there is no index of {tokens}, which {model.source} was trained on; "
            "`gristmill run RECIPE --until index` builds it"
        )
    opened = SourceIndex(index)
    runs = list(_traced_runs(models, tokens, steps))
    finder = SourceFinder(opened, Tokenizer.from_buffer(opened.tokenizer), runs, removed)
    # The first query loads the kernels and a table of documents, which takes seconds.
    PassageTracker(opened, finder.tokenizer, runs, min_tokens=1).passages("e")
    return finder


def _input_model(storage: Storage, released: Dataset, steps: Steps) -> Dataset | None:
    path = find_input(released, steps, "model")
    return None if path is None else try_open_dataset(storage, path)


def _find_index(storage: Storage, tokens: str, steps: Steps) -> Dataset | None:
    for stage in steps_with_output(steps, "index"):
        for folder in storage.list_folders(stage):
            data = try_open_dataset(storage, f"{stage}/{folder}")
            if data is not None and tokens in map(input_path, data.manifest.inputs):
                return data
    return None


def _traced_runs(models: Sequence[Dataset], tokens: str, steps: Steps) -> Iterator[TracedRun]:
    """Yield those of some models that were trained in steps on these token shards."""
    for model in models:
        if find_input(model, steps, "tokens") != tokens:
            continue
        if (run := trace_if_in_steps(model, model.storage.url)) is not None:
            yield run
