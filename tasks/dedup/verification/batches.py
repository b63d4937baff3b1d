"""Bins: whole components of nominated pairs, with all that is needed to compare their members."""

from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import kernel
from tasks.dedup.candidates.candidate_pairs import load_pairs
from tasks.dedup.candidates.exact import received_groups
from tasks.dedup.minhash.b_bit import wide
from tasks.dedup.minhash.shingle_readers import Readers, languages
from tasks.dedup.part_groups import Block
from tasks.dedup.shuffle_plan import Layout

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Rows of the exchanges. Members: document, root. Nodes: root, document, digest halves, shingles,
# documents of its exact group, source's place. Edges: root, documents, band and flag, similarity. Needs: document.
MEMBERS, NODES, EDGES, NEEDS = 2, 7, 5, 1


def spread(layout: Layout, partition: int) -> dict[str, Any]:
    """Tell each block which of its documents are in components."""
    edges, stars = _nominated(layout, partition)
    roots = np.setdiff1d(edges[:, 0], stars[:, 0])
    rows = np.concatenate([stars, np.column_stack([roots, roots])])
    layout.to_blocks("members", MEMBERS).send(partition, layout.block_of(rows[:, 0]), rows)
    return {"members": len(rows)}


def weigh(layout: Layout, block: Block) -> dict[str, Any]:
    """How many shingles the members in each piece of a block have."""
    rows = _members(layout, block)[0]
    held = np.zeros(block.rows, np.int64)
    held[rows] = block.shingles()[rows] if len(rows) else 0
    starts = [piece.start - block.start for piece in block.pieces]
    ends = [*starts[1:], block.rows]
    return {"pieces": [int(held[a:b].sum()) for a, b in zip(starts, ends, strict=True)]}


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
        nodes[:, 6] = block.sources()[rows]
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


def gather(layout: Layout, block: Block, sender: int, first: int, last: int) -> dict[str, Any]:
    """Send the bins what they asked for: of each document its number, a length and the words.

    The words are the sorted hashes of its distinct shingles, or its packed signature.

    Args:
        layout: the join.
        block: where the documents are.
        sender: the number of this task.
        first: the first piece of the block to be read.
        last: the piece after the last.
    """
    asked: list[U64] = []
    bins: list[I64] = []
    exchange = layout.to_blocks("needs", NEEDS)
    for number in layout.bins:
        found = exchange.receive(block.index, [number])[:, 0]
        asked.append(found)
        bins.append(np.full(len(found), number))
    numbers, place = np.concatenate(asked), np.concatenate(bins)
    pieces = block.pieces[first:last]
    start, end = pieces[0].start, pieces[-1].start + pieces[-1].documents.rows
    here = (numbers >= np.uint64(start)) & (numbers < np.uint64(end))
    numbers, place = numbers[here], place[here]
    order = np.argsort(numbers)
    rows = (numbers[order] - np.uint64(block.start)).astype(np.int64)
    flat, lengths = _words(layout, block, rows)
    records, bounds = _by_bin(flat, lengths, numbers[order], place[order], len(layout.bins))
    layout.exchange("words", len(layout.bins), 1).send_runs(sender, [records], bounds)
    return {"read": len(rows)}


def _words(layout: Layout, block: Block, rows: I64) -> tuple[U64, I64]:
    """What is compared of some rows of a block, ascending: all words, and how many of each row."""
    if not len(rows):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    if layout.config.verify == "signature":
        flat = wide(block.sketches(rows))
        return flat.reshape(-1), np.full(len(rows), flat.shape[1])
    readers = Readers(layout.config)
    sets: list[U64] = []
    for piece in block.pieces:
        offset = piece.start - block.start
        here = rows[(rows >= offset) & (rows < offset + piece.documents.rows)] - offset
        if len(here):
            texts = piece.documents.table(["text"])["text"]
            spoken = languages(piece.documents, piece.notes)
            found = readers.shingle_sets(texts, here.tolist(), spoken)
            sets += [found[row] for row in here.tolist()]
    return np.concatenate(sets), np.array([len(item) for item in sets])


@kernel
def _by_bin(flat: U64, lengths: I64, numbers: U64, place: I64, bins: int) -> tuple[U64, I64]:
    """Records of a number, a length and the words, ordered by bin; and where each bin starts."""
    bounds = np.zeros(bins + 1, np.int64)
    for i in range(len(numbers)):
        bounds[place[i] + 1] += 2 + lengths[i]
    for b in range(bins):
        bounds[b + 1] += bounds[b]
    at = bounds[:-1].copy()
    out = np.empty(bounds[bins], np.uint64)
    source = 0
    for i in range(len(numbers)):
        here = at[place[i]]
        out[here] = numbers[i]
        out[here + 1] = lengths[i]
        for k in range(lengths[i]):
            out[here + 2 + k] = flat[source + k]
        source += lengths[i]
        at[place[i]] = here + 2 + lengths[i]
    return out, bounds


def _members(layout: Layout, block: Block) -> tuple[I64, U64]:
    """The rows of a block that are in components, ascending, and their components' names."""
    found = layout.to_blocks("members", MEMBERS).receive(block.index, range(layout.ranges))
    found = found[np.argsort(found[:, 0])]
    return (found[:, 0] - np.uint64(block.start)).astype(np.int64), found[:, 1]


def _nominated(layout: Layout, partition: int, *, every: bool = False) -> tuple[U64, U64]:
    edges = load_pairs(layout, partition, every=every)
    return edges, layout.load(f"stars/{partition}", 2)
