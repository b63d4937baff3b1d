"""Find the passages of a text that stand in the training data, also while the text is written."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from infra.suffix_array.search import Ids, Lengths
from infra.suffix_array.source_index import Occurrence, SourceIndex
from views.history.training_data import TracedRun
from views.source.removed import RemovedDocuments

MIN_TOKENS = 8  # shorter runs of tokens are mostly phrases that anybody writes
MAX_PLACES = 5
REMOVED_FACTOR = 20  # times the places are looked at if some of the first ones were removed
# A word has other tokens at the beginning of a text than after a space, so a text is looked up in both ways.
BEFORE = ("", " ")


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
        places: the first of these; of a released model's sources without those that were removed.
    """

    start: int
    end: int
    text: str
    num_tokens: int
    count: int
    places: Sequence[Place]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


class PassageTracker:
    """Finds the passages of one text as it grows; what did not change is not looked up again.

    Attributes:
        longest: tokens of the longest run, even if it is shorter than what was asked for.
        min_tokens: of a passage.
    """

    def __init__(
        self,
        index: SourceIndex,
        tokenizer: Tokenizer,
        runs: Sequence[TracedRun],
        min_tokens: int = MIN_TOKENS,
        limit: int = MAX_PLACES,
        removed: RemovedDocuments | None = None,
    ) -> None:
        """Begin with the empty text.

        Args:
            index: of the training tokens.
            tokenizer: the index's (``SourceIndex.tokenizer``).
            runs: the models whose steps are told of each place.
            min_tokens: shorter runs are left out.
            limit: places of each passage.
            removed: documents that are not named; ``None``: all are.
        """
        self.longest = 0
        self.min_tokens = min_tokens
        self._tokenizer = tokenizer
        self._readings = [_Reading(index, runs, min_tokens, limit, removed) for _ in BEFORE]

    def passages(self, text: str) -> list[Passage]:
        """Return the passages of the whole text so far, in its order."""
        by_bounds: dict[tuple[int, int], Passage] = {}
        for before, reading in zip(BEFORE, self._readings, strict=True):
            encoding = self._tokenizer.encode(before + text, add_special_tokens=False)
            reading.update(np.array(encoding.ids, np.int64))
            for run in reading.runs.values():
                start = max(0, encoding.offsets[run.start][0] - len(before))
                end = encoding.offsets[run.end - 1][1] - len(before)
                start += len(text[start:end]) - len(text[start:end].lstrip())
                length = run.end - run.start
                passage = Passage(start, end, text[start:end], length, run.count, run.places)
                by_bounds.setdefault((start, end), passage)
        self.longest = max(reading.longest for reading in self._readings)
        passages, longest_end = [], 0
        for start, end in sorted(by_bounds, key=lambda bounds: (bounds[0], -bounds[1])):
            if end > longest_end:
                passages.append(by_bounds[start, end])
                longest_end = end
        return passages


@dataclass(frozen=True)
class _Run:
    """Tokens ``[start, end)`` of a text that occur in one piece, and where."""

    start: int
    end: int
    count: int
    places: Sequence[Place]


class _Reading:
    """The tokens of a text, and their runs in the training data."""

    def __init__(
        self,
        index: SourceIndex,
        runs: Sequence[TracedRun],
        min_tokens: int,
        limit: int,
        removed: RemovedDocuments | None,
    ) -> None:
        self.runs: dict[tuple[int, int], _Run] = {}
        self.longest = 0
        self._index, self._traced, self._min_tokens, self._limit = index, runs, min_tokens, limit
        self._removed = removed
        self._ids: Ids = np.zeros(0, np.int64)
        self._lengths: Lengths = np.zeros(0, np.int32)

    def update(self, ids: Ids) -> None:
        """Look up what changed.

        The match at a position depends on its tokens and the one that ends it, and no match ends before that of an
        earlier position: from the first one that reaches the change on, all are looked up.
        """
        common = min(len(ids), len(self._ids))
        differs = np.flatnonzero(ids[:common] != self._ids[:common])
        same = int(differs[0]) if len(differs) else common
        if same == len(ids) == len(self._ids):
            return
        ends = np.arange(len(self._lengths)) + self._lengths
        start = min(same, int(np.searchsorted(ends, same, side="left")))
        new = self._index.longest_matches(ids[start:])
        self._ids = ids
        self._lengths = np.concatenate([self._lengths[:start], new])
        self.longest = int(self._lengths.max(initial=0))
        known = self.runs
        self.runs = {}
        longest_end = 0
        for first, length in enumerate(self._lengths.tolist()):
            end = first + length
            if end <= longest_end:
                continue
            longest_end = end
            if length >= self._min_tokens:
                key = (first, end)
                self.runs[key] = known[key] if end <= same and key in known else self._find(*key)

    def _find(self, start: int, end: int) -> _Run:
        ids, limit = self._ids[start:end], self._limit
        count, places = self._index.find_occurrences(ids, limit)
        if self._removed is not None:
            known = len(places)
            places = self._removed.without_removed(places)
            if len(places) < known < count:
                _, more = self._index.find_occurrences(ids, limit * REMOVED_FACTOR)
                places = self._removed.without_removed(more)[:limit]
        return _Run(start, end, count, [self._place(place, end - start) for place in places])

    def _place(self, occurrence: Occurrence, length: int) -> Place:
        first = occurrence.first_token
        steps = {
            run.name: sorted(run.sampler.steps_containing(first, first + length, run.steps))
            for run in self._traced
        }
        return Place(**occurrence.document, offset=occurrence.offset, steps=steps)
