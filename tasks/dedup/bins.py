"""Bins: whole components of nominated pairs, with all that is needed to compare their members."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.dedup.blocks import Block
from tasks.dedup.exact import received_groups
from tasks.dedup.layout import Layout
from tasks.dedup.pairs import load_pairs
from tasks.dedup.readers import Readers, languages

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Rows of the exchanges. Members: document, root. Nodes: root, document, digest halves, shingles,
# documents of its exact group. Edges: root, documents, band and flag, similarity. Needs: document.
MEMBERS, NODES, EDGES, NEEDS = 2, 6, 5, 1


def spread(layout: Layout, partition: int) -> dict[str, Any]:
    """Tell each block which of its documents are in components."""
    edges, stars = _nominated(layout, partition)
    roots = np.setdiff1d(edges[:, 0], stars[:, 0])
    rows = np.concatenate([stars, np.column_stack([roots, roots])])
    layout.to_blocks("members", MEMBERS).send(partition, layout.block_of(rows[:, 0]), rows)
    return {"members": len(rows)}


def weigh(layout: Layout, block: Block) -> dict[str, Any]:
    """How many shingles the members in a block have."""
    rows = _members(layout, block)[0]
    return {"shingles": int(block.shingles()[rows].sum()) if len(rows) else 0}


def send_nodes(layout: Layout, block: Block) -> dict[str, Any]:
    """Send what is known of a block's members to the bins."""
    rows, roots = _members(layout, block)
    nodes = np.zeros((len(rows), NODES), np.uint64)
    if len(rows):
        groups = received_groups(layout, block)
        sizes = np.ones(block.rows, np.uint64)
        sizes[(groups[:, 0] - np.uint64(block.start)).astype(np.int64)] = groups[:, 2]
        nodes[:, 0], nodes[:, 1] = roots, rows + block.start
        nodes[:, 2:4] = block.digests()[rows]
        nodes[:, 4], nodes[:, 5] = block.shingles()[rows], sizes[rows]
    exchange = layout.exchange("nodes", len(layout.bins), NODES)
    exchange.send(block.index, layout.bin_of(nodes[:, 0]), nodes)
    return {}


def send_edges(layout: Layout, partition: int) -> dict[str, Any]:
    """Send the pairs of a range to the bins of their components."""
    edges, stars = _nominated(layout, partition, every=True)
    roots = edges[:, 0].copy()
    if len(stars):
        place = np.minimum(np.searchsorted(stars[:, 0], roots), len(stars) - 1)
        inner = stars[place, 0] == roots
        roots[inner] = stars[place[inner], 1]
    rows = np.column_stack([roots, edges])
    layout.exchange("edges", len(layout.bins), EDGES).send(partition, layout.bin_of(roots), rows)
    return {}


def gather(layout: Layout, block: Block) -> dict[str, Any]:
    """Send the bins what they asked for: of each document its number, a length and the words.

    The words are the sorted hashes of its distinct shingles, or its packed signature.
    """
    asked: list[U64] = []
    bins: list[I64] = []
    exchange = layout.to_blocks("needs", NEEDS)
    for number in layout.bins:
        found = exchange.receive(block.index, [number])[:, 0]
        asked.append(found)
        bins.append(np.full(len(found), number))
    numbers, place = np.concatenate(asked), np.concatenate(bins)
    pieces: list[list[U64]] = [[] for _ in layout.bins]
    rows = (numbers - np.uint64(block.start)).astype(np.int64)
    bin_of = dict(zip(rows.tolist(), place.tolist(), strict=True))
    for row, words in _words(layout, block, rows):
        head = np.array([row + block.start, len(words)], np.uint64)
        pieces[bin_of[row]] += [head, words]
    lengths = [sum(len(piece) for piece in found) for found in pieces]
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = [piece for found in pieces for piece in found]
    layout.exchange("words", len(layout.bins), 1).send_runs(block.index, flat, bounds)
    return {"read": len(rows)}


def _words(layout: Layout, block: Block, rows: I64) -> "list[tuple[int, U64]]":
    """What is compared of some rows of a block."""
    out: list[tuple[int, U64]] = []
    if layout.config.verify == "signature":
        if len(rows):
            packed = block.sketches(rows)
            pad = -packed.shape[1] % 8
            wide = np.ascontiguousarray(np.pad(packed, ((0, 0), (0, pad)))).view(np.uint64)
            out = [(int(row), words) for row, words in zip(rows, wide, strict=True)]
        return out
    readers = Readers(layout.config)
    for piece in block.pieces:
        offset = piece.start - block.start
        here = np.sort(rows[(rows >= offset) & (rows < offset + piece.documents.rows)]) - offset
        if len(here):
            texts = piece.documents.table(["text"])["text"]
            spoken = languages(piece.documents, piece.notes)
            sets = readers.shingle_sets(texts, here.tolist(), spoken)
            out += [(row + offset, sets[row]) for row in here.tolist()]
    return out


def _members(layout: Layout, block: Block) -> tuple[I64, U64]:
    """The rows of a block that are in components, ascending, and their components' names."""
    found = layout.to_blocks("members", MEMBERS).receive(block.index, range(layout.ranges))
    found = found[np.argsort(found[:, 0])]
    return (found[:, 0] - np.uint64(block.start)).astype(np.int64), found[:, 1]


def _nominated(layout: Layout, partition: int, *, every: bool = False) -> tuple[U64, U64]:
    edges = load_pairs(layout, partition, every=every)
    return edges, layout.load(f"stars/{partition}", 2)
