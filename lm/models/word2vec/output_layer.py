"""What a word is predicted with: random words to tell it from, or its path in a Huffman tree."""

import heapq
import math
from typing import NamedTuple

import numpy as np

from infra.compute.arrays import F64, I32, I64, U32

UINT32 = 1 << 32


class OutputLayer(NamedTuple):
    """The arrays of both kinds; those of the other kind are empty.

    Attributes:
        negatives: random words per pair; 0: hierarchical softmax.
        threshold: uint32[V] and
        alias: int32[V]: of Walker's alias method. A draw of a column i gives i if 32 random bits are at
            most ``threshold[i]``, else ``alias[i]``.
        starts: int64[V + 1]; word i has the path ``[starts[i], starts[i + 1])``.
        nodes: int32; the inner nodes from the root to each word.
        turns: int32; 1 where the path goes right.
    """

    negatives: int
    threshold: U32
    alias: I32
    starts: I64
    nodes: I32
    turns: I32


def sampling_layer(counts: list[int], negatives: int, exponent: float) -> OutputLayer:
    """Return the layer that draws words in proportion to their counts to the power ``exponent``."""
    threshold, alias = alias_table(_powers(counts, exponent))
    empty = np.zeros(0, np.int32)
    return OutputLayer(negatives, threshold, alias, np.zeros(1, np.int64), empty, empty)


def _powers(counts: list[int], exponent: float) -> F64:
    if exponent == 0.75:  # roots are exact on every processor, powers are not
        roots = np.sqrt(np.array(counts, np.float64))
        powers: F64 = roots * np.sqrt(roots)
        return powers
    return np.array([math.pow(count, exponent) for count in counts])


def alias_table(weights: F64) -> tuple[U32, I32]:
    """Return ``threshold`` and ``alias`` for draws in proportion to weights (Vose 1991)."""
    size = len(weights)
    scaled = (weights * (size / math.fsum(weights))).tolist()
    threshold = np.full(size, UINT32 - 1, np.uint32)
    alias = np.arange(size, dtype=np.int32)
    small = [column for column in range(size) if scaled[column] < 1]
    large = [column for column in range(size) if scaled[column] >= 1]
    while small and large:
        column, donor = small.pop(), large[-1]
        threshold[column] = min(int(scaled[column] * UINT32), UINT32 - 1)
        alias[column] = donor
        scaled[donor] -= 1 - scaled[column]
        if scaled[donor] < 1:
            small.append(large.pop())
    return threshold, alias


def huffman_layer(counts: list[int]) -> OutputLayer:
    """Return the layer of a Huffman tree: frequent words have short paths.

    Of two nodes with the same count the one that was made first is joined first, words in their order.
    """
    size = len(counts)
    heap = [(count, number) for number, count in enumerate(counts)]
    heapq.heapify(heap)
    parent = [0] * (2 * size - 1)
    turn = [0] * (2 * size - 1)
    for node in range(size, 2 * size - 1):
        (low, left), (high, right) = heapq.heappop(heap), heapq.heappop(heap)
        parent[left] = parent[right] = node
        turn[right] = 1
        heapq.heappush(heap, (low + high, node))
    root = 2 * size - 2
    starts, nodes, turns = [0], [], []
    for word in range(size):
        path, node = [], word
        while node != root:
            path.append((parent[node] - size, turn[node]))
            node = parent[node]
        nodes += [inner for inner, _ in reversed(path)]
        turns += [side for _, side in reversed(path)]
        starts.append(len(nodes))
    return OutputLayer(
        0,
        np.zeros(0, np.uint32),
        np.zeros(0, np.int32),
        np.array(starts, np.int64),
        np.array(nodes, np.int32),
        np.array(turns, np.int32),
    )
