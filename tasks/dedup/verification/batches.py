"""Verification batches: whole components of candidate pairs, with what comparing them needs."""

from typing import Any

import numpy as np

from infra.compute.arrays import I64, U64
from infra.compute.jit import jit
from infra.minhash.b_bit import as_words
from tasks.dedup.candidates.candidate_pairs import load_pairs
from tasks.dedup.candidates.exact import receive_groups
from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shingle_readers import ShingleReaders, load_languages
from tasks.dedup.shuffle_plan import DedupPlan

# Rows of members: document, root. Rows of nodes: root, document, digest halves, shingles, documents
# of its exact group, source index. Rows of edges: root, two documents, band and flags, similarity.
# Rows of requests: document.
MEMBER_WIDTH, NODE_WIDTH, EDGE_WIDTH, REQUEST_WIDTH = 2, 7, 5, 1


def send_members(plan: DedupPlan, partition: int) -> dict[str, Any]:
    """Tell each part group which of its documents are in components."""
    edges, stars = _load_candidates(plan, partition)
    roots = np.setdiff1d(edges[:, 0], stars[:, 0])
    rows = np.concatenate([stars, np.column_stack([roots, roots])])
    plan.shuffle_to_ranges("members", MEMBER_WIDTH).write_rows(
        partition, plan.range_of(rows[:, 0]), rows
    )
    return {"members": len(rows)}


def count_shingles(plan: DedupPlan, part_group: PartGroup) -> dict[str, Any]:
    """Count the shingles of the members in each part of a group."""
    rows = _receive_members(plan, part_group)[0]
    counts = np.zeros(part_group.rows, np.int64)
    counts[rows] = part_group.shingle_counts()[rows] if len(rows) else 0
    starts = [part.start - part_group.start for part in part_group.parts]
    ends = [*starts[1:], part_group.rows]
    return {"shingles": [int(counts[a:b].sum()) for a, b in zip(starts, ends, strict=True)]}


def send_nodes(plan: DedupPlan, part_group: PartGroup) -> dict[str, Any]:
    """Send the members of a part group to the verification batches."""
    rows, roots = _receive_members(plan, part_group)
    nodes = np.zeros((len(rows), NODE_WIDTH), np.uint64)
    if len(rows):
        groups = receive_groups(plan, part_group)
        sizes = np.ones(part_group.rows, np.uint64)
        sizes[part_group.row_of(groups[:, 0])] = groups[:, 2]
        nodes[:, 0], nodes[:, 1] = roots, rows + part_group.start
        nodes[:, 2:4] = part_group.digests()[rows]
        nodes[:, 4], nodes[:, 5] = part_group.shingle_counts()[rows], sizes[rows]
        nodes[:, 6] = part_group.source_indices()[rows]
    shuffle = plan.shuffle("nodes", len(plan.batches), NODE_WIDTH)
    shuffle.write_rows(part_group.index, plan.batch_of(nodes[:, 0]), nodes)
    return {}


def send_edges(plan: DedupPlan, partition: int) -> dict[str, Any]:
    """Send the pairs of a range to the batches of their components."""
    edges, stars = _load_candidates(plan, partition, include_known=True)
    roots = edges[:, 0].copy()
    if len(stars):
        index = np.minimum(np.searchsorted(stars[:, 0], roots), len(stars) - 1)
        inner = stars[index, 0] == roots
        roots[inner] = stars[index[inner], 1]
    rows = np.column_stack([roots, edges])
    plan.shuffle("edges", len(plan.batches), EDGE_WIDTH).write_rows(
        partition, plan.batch_of(roots), rows
    )
    return {}


def send_shingles(
    plan: DedupPlan, part_group: PartGroup, mapper: int, first: int, last: int
) -> dict[str, Any]:
    """Send the batches the shingles they requested: per document its number, a length, the words.

    The words are the sorted hashes of its distinct shingles, or its b-bit signature. This task, number
    ``mapper``, reads the parts ``first:last`` of the group.
    """
    requested: list[U64] = []
    batches: list[I64] = []
    shuffle = plan.shuffle_to_ranges("requests", REQUEST_WIDTH)
    for number in plan.batches:
        documents = shuffle.read_partition(part_group.index, [number])[:, 0]
        requested.append(documents)
        batches.append(np.full(len(documents), number))
    numbers, batch = np.concatenate(requested), np.concatenate(batches)
    parts = part_group.parts[first:last]
    start, end = parts[0].start, parts[-1].start + parts[-1].documents.num_rows
    inside = (numbers >= np.uint64(start)) & (numbers < np.uint64(end))
    numbers, batch = numbers[inside], batch[inside]
    order = np.argsort(numbers)
    rows = part_group.row_of(numbers[order])
    flat, lengths = _load_shingles(plan, part_group, rows)
    records, bounds = _group_by_batch(
        flat, lengths, numbers[order], batch[order], len(plan.batches)
    )
    plan.shuffle("shingles", len(plan.batches), 1).write_sorted(mapper, [records], bounds)
    return {"read": len(rows)}


def _load_shingles(plan: DedupPlan, part_group: PartGroup, rows: I64) -> tuple[U64, I64]:
    """Return the words to compare of some ascending rows, concatenated, and their number per row."""
    if not len(rows):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    if plan.config.verification == "signature":
        flat = as_words(part_group.b_bit_signatures(rows))
        return flat.reshape(-1), np.full(len(rows), flat.shape[1])
    readers = ShingleReaders(plan.config)
    sets: list[U64] = []
    for part in part_group.parts:
        offset = part.start - part_group.start
        inside = (rows >= offset) & (rows < offset + part.documents.num_rows)
        part_rows = (rows[inside] - offset).tolist()
        if part_rows:
            texts = part.documents.table(["text"])["text"]
            languages = load_languages(part.documents, part.annotations)
            by_row = readers.shingle_sets(texts, part_rows, languages)
            sets += [by_row[row] for row in part_rows]
    return np.concatenate(sets), np.array([len(item) for item in sets])


@jit
def _group_by_batch(
    flat: U64, lengths: I64, numbers: U64, batch_indices: I64, n_batches: int
) -> tuple[U64, I64]:
    """Return records of number, length and words, grouped by batch, and where each batch starts."""
    bounds = np.zeros(n_batches + 1, np.int64)
    for i in range(len(numbers)):
        bounds[batch_indices[i] + 1] += 2 + lengths[i]
    for b in range(n_batches):
        bounds[b + 1] += bounds[b]
    following = bounds[:-1].copy()
    out = np.empty(bounds[n_batches], np.uint64)
    source = 0
    for i in range(len(numbers)):
        target = following[batch_indices[i]]
        out[target] = numbers[i]
        out[target + 1] = lengths[i]
        for k in range(lengths[i]):
            out[target + 2 + k] = flat[source + k]
        source += lengths[i]
        following[batch_indices[i]] = target + 2 + lengths[i]
    return out, bounds


def _receive_members(plan: DedupPlan, part_group: PartGroup) -> tuple[I64, U64]:
    """Return the ascending rows of a part group that are in components, and their roots."""
    members = plan.shuffle_to_ranges("members", MEMBER_WIDTH).read_partition(
        part_group.index, range(plan.n_pair_ranges)
    )
    members = members[np.argsort(members[:, 0])]
    return part_group.row_of(members[:, 0]), members[:, 1]


def _load_candidates(
    plan: DedupPlan, partition: int, *, include_known: bool = False
) -> tuple[U64, U64]:
    edges = load_pairs(plan, partition, include_known=include_known)
    return edges, plan.load(f"stars/{partition}", 2)
