"""What the rows of a stream are made of: which tokens of the training split stand where.

A row is ``context + 1`` tokens: inputs, and one to the right their targets. What stands in its first
column is an input only. A stream is the split, or the documents of one source in their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from lm.data.shuffle import Indices, count_rows

MAX_CACHED_GROUPS = 64  # packed groups that are kept at hand
EMPTY = np.zeros(0, np.int64)


@dataclass(frozen=True)
class TokenSpans:
    """Runs of tokens, each with its place; all int64[p].

    Attributes:
        rows: which of the rows that were asked for, from 0.
        columns: its first column.
        starts: its first token in the training split.
        lengths: its tokens.
    """

    rows: Indices
    columns: Indices
    starts: Indices
    lengths: Indices

    @property
    def target_starts(self) -> Indices:
        """First token of each piece that is a target, not only an input."""
        inputs: Indices = (self.columns == 0).astype(np.int64)
        return self.starts + inputs

    @staticmethod
    def concat(parts: Sequence["TokenSpans"]) -> "TokenSpans":
        """All of them, one after the other."""
        columns = [(EMPTY,) * 4, *((p.rows, p.columns, p.starts, p.lengths) for p in parts)]
        return TokenSpans(*(np.concatenate(some) for some in zip(*columns, strict=True)))


class RowSource(Protocol):
    """Rows by number.

    Attributes:
        rows: how many there are.
        tokens: how many tokens the stream has.
        documents: how many documents; 0 if that is not known.
    """

    rows: int
    tokens: int
    documents: int

    def token_spans(self, rows: Indices) -> TokenSpans:
        """What some rows are made of."""

    def rows_containing(self, first: int, end: int) -> Indices:
        """The rows that hold any of the split's tokens ``[first, end)``, ascending."""


class ConcatenatedRows:
    """One document after the other, cut every ``context`` tokens.

    Window ``w`` holds the stream's tokens ``[w T, w T + T]`` for a context of T: its last target is
    the first input of the next. A rest too short for a window is left out.
    """

    def __init__(self, starts: Indices, lengths: Indices, context_length: int, documents: int = 0) -> None:
        """A stream of runs of the split.

        Args:
            starts: int64[n], ascending, first token of each run.
            lengths: int64[n].
            context_length: T.
            documents: how many documents these are.

        Raises:
            TooFewTokens: if there is not one window.
        """
        self._starts, self._context, self.documents = starts, context_length, documents
        self._bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.tokens = int(self._bounds[-1])
        self.rows = count_rows(self.tokens, context_length)

    def token_spans(self, rows: Indices) -> TokenSpans:
        """What some windows are made of."""
        index = np.arange(len(rows))
        at, left = rows * self._context, np.full(len(rows), self._context + 1)
        column = np.zeros(len(rows), np.int64)
        parts = []
        while len(index):
            run = np.searchsorted(self._bounds, at, side="right") - 1
            taken = np.minimum(left, self._bounds[run + 1] - at)
            parts.append(TokenSpans(index, column, self._starts[run] + at - self._bounds[run], taken))
            on = left > taken
            index, at, left, column = (
                index[on],
                (at + taken)[on],
                (left - taken)[on],
                (column + taken)[on],
            )
        return TokenSpans.concat(parts)

    def rows_containing(self, first: int, end: int) -> Indices:
        """The windows that hold any of the split's tokens ``[first, end)``."""
        ends = self._starts + np.diff(self._bounds)
        found = [EMPTY]
        touched = range(
            int(np.searchsorted(ends, first, side="right")), int(np.searchsorted(self._starts, end))
        )
        for run in touched:
            shift = int(self._bounds[run] - self._starts[run])
            a, b = max(first, int(self._starts[run])) + shift, min(end, int(ends[run])) + shift
            if a < b:
                # A token that starts a window is also the last target of the window before.
                low = max(0, (a - 1) // self._context)
                found.append(np.arange(low, min(self.rows, (b - 1) // self._context + 1)))
        return np.unique(np.concatenate(found))


class PackedRows:
    """Documents packed into rows (``packing``); the first input is an end of text.

    A row that begins in the middle of a document has the token before it there instead.
    """

    def __init__(self, starts: Indices, lengths: Indices, context_length: int) -> None:
        """A stream of documents; each is packed with its neighbours.

        Args:
            starts: int64[n], ascending, first token of each document.
            lengths: int64[n].
            context_length: targets of a row.

        Raises:
            TooFewTokens: if there is no document.
        """
        from lm.data.packing import PackedGroup, packing_groups, pack

        some = lengths > 0
        self._starts, self._lengths, self._context = starts[some], lengths[some], context_length
        self._ends = self._starts + self._lengths
        self._groups = packing_groups(self._lengths)
        self.tokens, self.documents = int(self._lengths.sum()), len(starts)

        @lru_cache(MAX_CACHED_GROUPS)
        def group(number: int) -> PackedGroup:
            first, end = self._groups[number : number + 2]
            return pack(self._lengths[first:end], context_length)

        self._group = group
        if not len(self._starts):
            count_rows(0, context_length)
        sizes = [len(group(number)) for number in range(len(self._groups) - 1)]
        self._bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.rows = int(self._bounds[-1])

    def token_spans(self, rows: Indices) -> TokenSpans:
        """What some rows are made of."""
        group_of = np.searchsorted(self._bounds, rows, side="right") - 1
        parts = []
        for number in np.unique(group_of).tolist():
            index = np.flatnonzero(group_of == number)
            packed, own = self._group(number), rows[index] - self._bounds[number]
            counts = packed.bounds[own + 1] - packed.bounds[own]
            before = np.cumsum(counts) - counts
            at = np.arange(counts.sum()) + np.repeat(packed.bounds[own] - before, counts)
            parts.append(self._locate_spans(number, at, np.repeat(index, counts)))
        return TokenSpans.concat(parts)

    def _locate_spans(self, group: int, indices: Indices, rows: Indices) -> TokenSpans:
        """Pieces of a group, where they lie in the split and in their rows."""
        packed = self._group(group)
        # The token before a piece that goes on with its document is its row's first input.
        lead = ((packed.columns[indices] == 0) & (packed.offsets[indices] > 0)).astype(np.int64)
        documents = self._groups[group] + packed.documents[indices]
        starts = self._starts[documents] + packed.offsets[indices] - lead
        return TokenSpans(rows, packed.columns[indices] + 1 - lead, starts, packed.lengths[indices] + lead)

    def rows_containing(self, first: int, end: int) -> Indices:
        """The rows that hold any of the split's tokens ``[first, end)``."""
        low = int(np.searchsorted(self._ends, first, side="right"))
        high = int(np.searchsorted(self._starts, end))
        found = [EMPTY]
        groups = np.searchsorted(self._groups, [low, max(low, high - 1)], side="right") - 1
        for number in range(groups[0], groups[1] + 1) if low < high else ():
            packed, base = self._group(number), int(self._groups[number])
            at = packed.find_spans(low - base, high - base)
            pieces = self._locate_spans(number, at, np.searchsorted(packed.bounds, at, side="right") - 1)
            hit = (pieces.starts < end) & (pieces.starts + pieces.lengths > first)
            found.append(self._bounds[number] + pieces.rows[hit])
        return np.unique(np.concatenate(found))
