"""Bins: whole components of nominated pairs, with all that is needed to compare their members."""

from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit
from tasks.dedup.candidates.candidate_pairs import load_pairs
from tasks.dedup.candidates.exact import receive_groups
from tasks.dedup.minhash.b_bit import as_words
from tasks.dedup.minhash.shingle_readers import ShingleReaders, load_languages
from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shuffle_plan import ShufflePlan

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Rows of the exchanges. Members: document, root. Nodes: root, document, digest halves, shingles,
# documents of its exact group, source's place. Edges: root, documents, band and flag, similarity. Needs: document.
MEMBER_WIDTH, NODE_WIDTH, EDGE_WIDTH, REQUEST_WIDTH = 2, 7, 5, 1


def send_members(plan: ShufflePlan, partition: int) -> dict[str, Any]:
    """Tell each block which of its documents are in components."""
    edges, stars = _load_candidates(plan, partition)
    roots = np.setdiff1d(edges[:, 0], stars[:, 0])
    rows = np.concatenate([stars, np.column_stack([roots, roots])])
    plan.shuffle_to_part_groups("members", MEMBER_WIDTH).write_rows(
        partition, plan.part_group_index(rows[:, 0]), rows
    )
    return {"members": len(rows)}


def count_shingles(plan: ShufflePlan, part_group: PartGroup) -> dict[str, Any]:
    """How many shingles the members in each piece of a block have."""
    rows = _receive_members(plan, part_group)[0]
    held = np.zeros(part_group.rows, np.int64)
    held[rows] = part_group.shingle_counts()[rows] if len(rows) else 0
    starts = [piece.start - part_group.start for piece in part_group.parts]
    ends = [*starts[1:], part_group.rows]
    return {"shingles": [int(held[a:b].sum()) for a, b in zip(starts, ends, strict=True)]}


def send_nodes(plan: ShufflePlan, part_group: PartGroup) -> dict[str, Any]:
    """Send what is known of a block's members to the bins."""
    rows, roots = _receive_members(plan, part_group)
    nodes = np.zeros((len(rows), NODE_WIDTH), np.uint64)
    if len(rows):
        groups = receive_groups(plan, part_group)
        sizes = np.ones(part_group.rows, np.uint64)
        sizes[(groups[:, 0] - np.uint64(part_group.start)).astype(np.int64)] = groups[:, 2]
        nodes[:, 0], nodes[:, 1] = roots, rows + part_group.start
        nodes[:, 2:4] = part_group.digests()[rows]
        nodes[:, 4], nodes[:, 5] = part_group.shingle_counts()[rows], sizes[rows]
        nodes[:, 6] = part_group.source_indices()[rows]
    exchange = plan.shuffle("nodes", len(plan.batches), NODE_WIDTH)
    exchange.write_rows(part_group.index, plan.batch_index(nodes[:, 0]), nodes)
    return {}


def send_edges(plan: ShufflePlan, partition: int) -> dict[str, Any]:
    """Send the pairs of a range to the bins of their components."""
    edges, stars = _load_candidates(plan, partition, include_known=True)
    roots = edges[:, 0].copy()
    if len(stars):
        place = np.minimum(np.searchsorted(stars[:, 0], roots), len(stars) - 1)
        inner = stars[place, 0] == roots
        roots[inner] = stars[place[inner], 1]
    rows = np.column_stack([roots, edges])
    plan.shuffle("edges", len(plan.batches), EDGE_WIDTH).write_rows(
        partition, plan.batch_index(roots), rows
    )
    return {}


def send_shingles(
    plan: ShufflePlan, part_group: PartGroup, mapper: int, first: int, last: int
) -> dict[str, Any]:
    """Send the bins what they asked for: of each document its number, a length and the words.

    The words are the sorted hashes of its distinct shingles, or its packed signature.

    Args:
        plan: the join.
        part_group: where the documents are.
        mapper: the number of this task.
        first: the first piece of the block to be read.
        last: the piece after the last.
    """
    asked: list[U64] = []
    bins: list[I64] = []
    exchange = plan.shuffle_to_part_groups("requests", REQUEST_WIDTH)
    for number in plan.batches:
        found = exchange.read_partition(part_group.index, [number])[:, 0]
        asked.append(found)
        bins.append(np.full(len(found), number))
    numbers, place = np.concatenate(asked), np.concatenate(bins)
    pieces = part_group.parts[first:last]
    start, end = pieces[0].start, pieces[-1].start + pieces[-1].documents.num_rows
    here = (numbers >= np.uint64(start)) & (numbers < np.uint64(end))
    numbers, place = numbers[here], place[here]
    order = np.argsort(numbers)
    rows = (numbers[order] - np.uint64(part_group.start)).astype(np.int64)
    flat, lengths = _load_shingles(plan, part_group, rows)
    records, bounds = _group_by_batch(
        flat, lengths, numbers[order], place[order], len(plan.batches)
    )
    plan.shuffle("shingles", len(plan.batches), 1).write_sorted(mapper, [records], bounds)
    return {"read": len(rows)}


def _load_shingles(plan: ShufflePlan, part_group: PartGroup, rows: I64) -> tuple[U64, I64]:
    """What is compared of some rows of a block, ascending: all words, and how many of each row."""
    if not len(rows):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    if plan.config.verification == "signature":
        flat = as_words(part_group.packed_signatures(rows))
        return flat.reshape(-1), np.full(len(rows), flat.shape[1])
    readers = ShingleReaders(plan.config)
    sets: list[U64] = []
    for piece in part_group.parts:
        offset = piece.start - part_group.start
        here = rows[(rows >= offset) & (rows < offset + piece.documents.num_rows)] - offset
        if len(here):
            texts = piece.documents.table(["text"])["text"]
            spoken = load_languages(piece.documents, piece.annotations)
            found = readers.shingle_sets(texts, here.tolist(), spoken)
            sets += [found[row] for row in here.tolist()]
    return np.concatenate(sets), np.array([len(item) for item in sets])


@jit
def _group_by_batch(
    flat: U64, lengths: I64, numbers: U64, batch_indices: I64, n_batches: int
) -> tuple[U64, I64]:
    """Records of a number, a length and the words, ordered by bin; and where each bin starts."""
    bounds = np.zeros(n_batches + 1, np.int64)
    for i in range(len(numbers)):
        bounds[batch_indices[i] + 1] += 2 + lengths[i]
    for b in range(n_batches):
        bounds[b + 1] += bounds[b]
    at = bounds[:-1].copy()
    out = np.empty(bounds[n_batches], np.uint64)
    source = 0
    for i in range(len(numbers)):
        here = at[batch_indices[i]]
        out[here] = numbers[i]
        out[here + 1] = lengths[i]
        for k in range(lengths[i]):
            out[here + 2 + k] = flat[source + k]
        source += lengths[i]
        at[batch_indices[i]] = here + 2 + lengths[i]
    return out, bounds


def _receive_members(plan: ShufflePlan, part_group: PartGroup) -> tuple[I64, U64]:
    """The rows of a block that are in components, ascending, and their components' names."""
    found = plan.shuffle_to_part_groups("members", MEMBER_WIDTH).read_partition(
        part_group.index, range(plan.n_ranges)
    )
    found = found[np.argsort(found[:, 0])]
    return (found[:, 0] - np.uint64(part_group.start)).astype(np.int64), found[:, 1]


def _load_candidates(
    plan: ShufflePlan, partition: int, *, include_known: bool = False
) -> tuple[U64, U64]:
    edges = load_pairs(plan, partition, include_known=include_known)
    return edges, plan.load(f"stars/{partition}", 2)
