"""Which tokens of the training split form each row.

A row is ``context_length + 1`` tokens: inputs, and one to the right their targets. Its first column
is an input only. A row source is the whole split, or the documents of one source in their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from lm.data.shuffle import Indices, count_rows

MAX_CACHED_GROUPS = 64  # packed groups that are kept in memory
EMPTY = np.zeros(0, np.int64)


@dataclass(frozen=True)
class TokenSpans:
    """Spans of consecutive tokens and where they are in rows; all int64[p].

    Attributes:
        rows: index among the requested rows.
        columns: first column in the row.
        starts: first token in the training split.
        lengths: number of tokens.
    """

    rows: Indices
    columns: Indices
    starts: Indices
    lengths: Indices

    @property
    def target_starts(self) -> Indices:
        """The first token of each span that is a target, not only an input."""
        inputs: Indices = (self.columns == 0).astype(np.int64)
        return self.starts + inputs

    @staticmethod
    def concat(parts: Sequence["TokenSpans"]) -> "TokenSpans":
        """Concatenate spans."""
        columns = [(EMPTY,) * 4, *((p.rows, p.columns, p.starts, p.lengths) for p in parts)]
        return TokenSpans(*(np.concatenate(column) for column in zip(*columns, strict=True)))


class RowSource(Protocol):
    """Rows by number."""

    rows: int  # number of rows
    tokens: int
    documents: int  # 0 if it is not known

    def token_spans(self, rows: Indices) -> TokenSpans:
        """Return the spans that form some rows."""

    def rows_containing(self, first: int, end: int) -> Indices:
        """Return the rows with any of the split's tokens ``[first, end)``, ascending."""


class ConcatenatedRows:
    """Documents one after the other, cut every ``context_length`` tokens.

    Row ``r`` has the tokens ``[r T, r T + T]`` for a context length of T: its last target is the
    first input of the next row. A remainder too short for a row is left out.
    """

    def __init__(
        self, starts: Indices, lengths: Indices, context_length: int, documents: int = 0
    ) -> None:
        """Cut runs of the split's tokens, in ascending order, into rows.

        Raises:
            TooFewTokensError: if the tokens do not fill one row.
        """
        self._starts, self._context, self.documents = starts, context_length, documents
        self._bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.tokens = int(self._bounds[-1])
        self.rows = count_rows(self.tokens, context_length)

    def token_spans(self, rows: Indices) -> TokenSpans:
        """Return the spans that form some rows."""
        index = np.arange(len(rows))
        position, left = rows * self._context, np.full(len(rows), self._context + 1)
        column = np.zeros(len(rows), np.int64)
        parts = []
        while len(index):
            run = np.searchsorted(self._bounds, position, side="right") - 1
            taken = np.minimum(left, self._bounds[run + 1] - position)
            parts.append(
                TokenSpans(index, column, self._starts[run] + position - self._bounds[run], taken)
            )
            unfinished = left > taken
            index, position, left, column = (
                index[unfinished],
                (position + taken)[unfinished],
                (left - taken)[unfinished],
                (column + taken)[unfinished],
            )
        return TokenSpans.concat(parts)

    def rows_containing(self, first: int, end: int) -> Indices:
        """Return the rows with any of the split's tokens ``[first, end)``, ascending."""
        ends = self._starts + np.diff(self._bounds)
        rows = [EMPTY]
        overlapping_runs = range(
            int(np.searchsorted(ends, first, side="right")), int(np.searchsorted(self._starts, end))
        )
        for run in overlapping_runs:
            shift = int(self._bounds[run] - self._starts[run])
            a, b = max(first, int(self._starts[run])) + shift, min(end, int(ends[run])) + shift
            if a < b:
                # A token that starts a row is also the last target of the row before.
                low = max(0, (a - 1) // self._context)
                rows.append(np.arange(low, min(self.rows, (b - 1) // self._context + 1)))
        return np.unique(np.concatenate(rows))


class PackedRows:
    """Documents packed into rows (``packing``); a row's first input is the end-of-text token.

    The first input of a row that starts in the middle of a document is the token before it instead.
    """

    def __init__(self, starts: Indices, lengths: Indices, context_length: int) -> None:
        """Pack documents, given in ascending order, each together with its neighbors.

        Raises:
            TooFewTokensError: if there is no document.
        """
        from lm.data.packing import PackedGroup, pack, packing_groups

        nonempty = lengths > 0
        self._starts, self._lengths = starts[nonempty], lengths[nonempty]
        self._context = context_length
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
        """Return the spans that form some rows."""
        groups = np.searchsorted(self._bounds, rows, side="right") - 1
        parts = []
        for number in np.unique(groups).tolist():
            index = np.flatnonzero(groups == number)
            packed, group_rows = self._group(number), rows[index] - self._bounds[number]
            counts = packed.bounds[group_rows + 1] - packed.bounds[group_rows]
            before = np.cumsum(counts) - counts
            spans = np.arange(counts.sum()) + np.repeat(packed.bounds[group_rows] - before, counts)
            parts.append(self._locate_spans(number, spans, np.repeat(index, counts)))
        return TokenSpans.concat(parts)

    def _locate_spans(self, group: int, indices: Indices, rows: Indices) -> TokenSpans:
        """Return where some spans of a group are in the split and in their rows."""
        packed = self._group(group)
        # A span that continues a document at the start of a row takes the token before it along, as the
        # row's first input.
        lead = ((packed.columns[indices] == 0) & (packed.offsets[indices] > 0)).astype(np.int64)
        documents = self._groups[group] + packed.documents[indices]
        starts = self._starts[documents] + packed.offsets[indices] - lead
        return TokenSpans(
            rows, packed.columns[indices] + 1 - lead, starts, packed.lengths[indices] + lead
        )

    def rows_containing(self, first: int, end: int) -> Indices:
        """Return the rows with any of the split's tokens ``[first, end)``, ascending."""
        low = int(np.searchsorted(self._ends, first, side="right"))
        high = int(np.searchsorted(self._starts, end))
        rows = [EMPTY]
        groups = np.searchsorted(self._groups, [low, max(low, high - 1)], side="right") - 1
        for number in range(groups[0], groups[1] + 1) if low < high else ():
            packed, base = self._group(number), int(self._groups[number])
            spans = packed.find_spans(low - base, high - base)
            located = self._locate_spans(
                number, spans, np.searchsorted(packed.bounds, spans, side="right") - 1
            )
            overlaps = (located.starts < end) & (located.starts + located.lengths > first)
            rows.append(self._bounds[number] + located.rows[overlaps])
        return np.unique(np.concatenate(rows))
