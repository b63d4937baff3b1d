"""Pack documents into rows of one length, whole where they fit: best-fit decreasing.

Ding et al. 2024, "Fewer truncations improve language modeling" (arXiv:2404.10830). A document that
is longer than a row is cut into full rows and a remainder. Whole documents and remainders are placed
longest first, each into the open row with the least sufficient room, or into a new row. Every span
except a full row ends with its document's end-of-text token, so the next span in the row starts a
document, as masking assumes.

Consecutive documents are packed in groups: the spans of a row are near each other in the split, so
that rows can be read from a remote store, and only the groups that are needed are packed.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from infra.compute.jit import jit
from lm.data.shuffle import Indices

GROUP_TOKENS = 1 << 24  # minimum tokens that are packed together; some thousand rows


@dataclass(frozen=True)
class PackedGroup:
    """Rows of spans.

    Attributes:
        documents: int64[p], the document of each span; spans are sorted by row.
        offsets: int64[p], where the span starts in its document.
        lengths: int64[p], its tokens.
        columns: int64[p], where it starts among the row's targets.
        bounds: int64[rows + 1], row ``r`` has the spans ``[bounds[r], bounds[r + 1])``.
    """

    documents: Indices
    offsets: Indices
    lengths: Indices
    columns: Indices
    bounds: Indices

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.bounds) - 1

    def find_spans(self, first: int, end: int) -> Indices:
        """Return the spans of the documents ``[first, end)``."""
        low, high = np.searchsorted(self.documents, [first, end], sorter=self._by_document)
        return self._by_document[low:high]

    @cached_property
    def _by_document(self) -> Indices:
        return np.argsort(self.documents, kind="stable")


def packing_groups(lengths: Indices, group_tokens: int = GROUP_TOKENS) -> Indices:
    """Return the bounds of groups of consecutive documents, int64[groups + 1].

    A group ends with the document that fills it to ``group_tokens``.
    """
    before = np.cumsum(lengths) - lengths  # tokens ahead of each document
    firsts = np.flatnonzero(np.diff(before // group_tokens, prepend=-1))
    return np.append(firsts, len(lengths)).astype(np.int64)


def pack(lengths: Indices, capacity: int) -> PackedGroup:
    """Pack documents of these lengths, each at least 1, into rows of ``capacity`` tokens."""
    pieces = -(-lengths // capacity)
    documents = np.repeat(np.arange(len(lengths)), pieces)
    firsts = np.cumsum(pieces) - pieces
    offsets = (np.arange(len(documents)) - np.repeat(firsts, pieces)) * capacity
    sizes = np.minimum(capacity, lengths[documents] - offsets)
    longest_first = np.argsort(-sizes, kind="stable")
    rows = np.empty(len(sizes), np.int64)
    rows[longest_first] = best_fit(sizes[longest_first], capacity)
    # Within a row, spans are in the order in which they were placed.
    order = longest_first[np.argsort(rows[longest_first], kind="stable")]
    sizes = sizes[order]
    bounds = np.searchsorted(rows[order], np.arange((rows.max() + 1 if len(rows) else 0) + 1))
    before = np.cumsum(sizes) - sizes
    columns = before - np.repeat(before[bounds[:-1]], np.diff(bounds))
    return PackedGroup(documents[order], offsets[order], sizes, columns, bounds.astype(np.int64))


@jit
def best_fit(sizes: Indices, capacity: int) -> Indices:
    """Return the row of each span; ``sizes`` are descending, each from 1 to ``capacity``.

    Open rows are listed by their room; a binary tree over the number of rows with each room finds
    the smallest sufficient room, so that a span costs about ``2 log2(capacity)`` steps.
    """
    leaves = 1
    while leaves <= capacity:
        leaves *= 2
    open_rows = np.zeros(2 * leaves, np.int64)  # number of rows; leaf `leaves + room`
    newest = np.full(capacity + 1, -1, np.int64)  # the newest row with this room
    older = np.full(len(sizes) + 1, -1, np.int64)  # the next older row with the same room
    rows = np.empty(len(sizes), np.int64)
    made = 0
    for piece in range(len(sizes)):
        size = sizes[piece]
        node = leaves + size
        while node > 1 and open_rows[node] == 0:
            # Climb until there is a subtree to the right.
            while node > 1 and node % 2 == 1:
                node //= 2
            if node > 1:
                node += 1
        if node > 1:
            while node < leaves:
                node = 2 * node if open_rows[2 * node] > 0 else 2 * node + 1
            room = node - leaves
            row = newest[room]
            newest[room] = older[row]
            while node >= 1:
                open_rows[node] -= 1
                node //= 2
        else:
            room, row = capacity, made
            made += 1
        rows[piece] = row
        room -= size
        if room > 0:
            older[row] = newest[room]
            newest[room] = row
            node = leaves + room
            while node >= 1:
                open_rows[node] += 1
                node //= 2
    return rows
