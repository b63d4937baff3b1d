"""The index of a training split: which documents contain a run of tokens, and where."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.local_files import local_file
from infra.store.cache_dir import cache_root
from infra.suffix_array.search import Ids, Lengths, SuffixArray

TOKENS_FILE, SUFFIXES_FILE = "tokens.bin", "suffixes.bin"
DTYPE_KEY = "dtype"  # of the token ids, in the data set's statistics
ROWS = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("license", pa.string()),
        ("tokens", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Span:
    """Tokens ``[start, end)`` of a query, which occur in one piece in the training data."""

    start: int
    end: int


@dataclass(frozen=True)
class Occurrence:
    """Where a span stands.

    Attributes:
        document: id, url, source and license of the document.
        offset: the span's first token, counted from the document's.
        first_token: the same, counted from the first token of the training split.
    """

    document: dict[str, str | None]
    offset: int
    first_token: int


class _Group:
    """A part of the index: its suffix array, memory-mapped, and its documents."""

    def __init__(self, part: PartRef, dtype: "np.dtype[Any]", cache: Path) -> None:
        files = part.record.files
        tokens, suffixes = (
            local_file(part.storage, files[name], cache) for name in (TOKENS_FILE, SUFFIXES_FILE)
        )
        self.array = SuffixArray(_map(tokens, dtype), _map(suffixes, np.dtype("<i4")))
        self._part = part

    @cached_property
    def documents(self) -> pa.Table:
        return self._part.table()

    @cached_property
    def document_ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self.documents["tokens"].to_numpy())


class SourceIndex:
    """Looks up runs of tokens in the training split that a data set of the stage `index` was made from.

    Attributes:
        tokenizer: ``tokenizer.json`` of the token ids.
    """

    def __init__(self, index: Dataset) -> None:
        """Open all groups; their files are mapped, not read. Those of a remote store are downloaded.

        Raises:
            FileNotFoundError: if a file is missing.
            IntegrityError: if a file that was downloaded is not the one that was committed.
        """
        dtype, cache = np.dtype(index.stats[DTYPE_KEY]), cache_root() / "indexes" / index.content
        self.tokenizer = index.read("tokenizer.json")
        self._groups = [_Group(part, dtype, cache) for part in index.parts]
        sizes = [len(group.array.tokens) for group in self._groups]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def __len__(self) -> int:
        """Number of tokens."""
        return int(self._starts[-1])

    def longest_matches(self, ids: Ids) -> Lengths:
        """Return, for each position, how many tokens from it on occur in one piece, int32[n]."""
        lengths = np.zeros(len(ids), np.int32)
        for group in self._groups:
            np.maximum(lengths, group.array.longest_matches(ids), out=lengths)
        return lengths

    def find_spans(self, ids: Ids, min_tokens: int) -> Iterator[Span]:
        """Yield the spans that occur and cannot be made longer, in order, if they are long enough."""
        longest_end = 0
        for start, length in enumerate(self.longest_matches(ids).tolist()):
            if start + length > longest_end:
                longest_end = start + length
                if length >= min_tokens:
                    yield Span(start, start + length)

    def find_occurrences(self, ids: Ids, limit: int) -> tuple[int, list[Occurrence]]:
        """Return how often a run of tokens occurs, and at most ``limit`` places, in their order."""
        total = 0
        found: list[Occurrence] = []
        for group, start in zip(self._groups, self._starts.tolist(), strict=False):
            count, positions = group.array.find(ids, max(0, limit - len(found)))
            total += count
            for position in positions.tolist():
                number = int(np.searchsorted(group.document_ends, position, side="right"))
                row = group.documents.slice(number, 1).to_pylist()[0]
                document_start = int(group.document_ends[number]) - row.pop("tokens")
                found.append(Occurrence(row, position - document_start, start + position))
        return total, found


def _map(path: Path, dtype: "np.dtype[Any]") -> npt.NDArray[Any]:
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
