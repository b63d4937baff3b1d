"""Verification: compare the candidate pairs, and connect those that pass into clusters."""

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np

from infra.compute.arrays import F64, I64, U64, Bools
from infra.compute.jit import jit
from infra.compute.shuffle import as_bytes
from infra.dataset.manifest import IntegrityError
from infra.minhash.b_bit import estimate_jaccard
from tasks.dedup.candidates.candidate_pairs import KNOWN_ONLY, NO_BAND
from tasks.dedup.candidates.components import connected_components
from tasks.dedup.candidates.lsh import all_pairs, bounded_pairs
from tasks.dedup.shuffle_plan import (
    N_REFERENCES,
    DedupPlan,
    find_equal_runs,
    floats_to_words,
    words_to_floats,
)
from tasks.dedup.verification.batches import EDGE_WIDTH, NODE_WIDTH, REQUEST_WIDTH

# Rows of labels: document, the cluster's digest halves, its number of documents. Rows of compared
# pairs: the cluster's digest halves (zero if the pair failed), two documents, band and flags,
# similarity.
LABEL_WIDTH, COMPARED_WIDTH = 4, 6


@jit
def jaccard(a: U64, b: U64) -> float:
    """Return ``|a & b| / |a | b|`` of two sorted arrays of distinct values; 0 for two empty ones."""
    i = 0
    j = 0
    both = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            both += 1
            i += 1
            j += 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    union = len(a) + len(b) - both
    return both / union if union else 0.0


class ShingleSets(NamedTuple):
    """The shingle sets (or b-bit signatures) of a batch's documents.

    Attributes:
        flat: uint64 words of all documents, concatenated.
        start: int64[nodes], where a node's words begin; -1 if they were not requested.
        length: int64[nodes], number of words.
    """

    flat: U64
    start: I64
    length: I64


@dataclass(frozen=True)
class VerificationBatch:
    """The nodes of a batch and the pairs between them, as indices of nodes.

    Attributes:
        nodes: uint64[n, 7], sorted by document (``tasks.dedup.verification.batches``).
        pairs: int64[k, 2], distinct.
        tags: uint64[k], band and flags.
        similarity: float64[k], NaN where unknown.
    """

    nodes: U64
    pairs: I64
    tags: U64
    similarity: F64

    @staticmethod
    def receive(plan: DedupPlan, number: int) -> "VerificationBatch":
        """Read what was sent to a batch."""
        nodes = plan.shuffle("nodes", len(plan.batches), NODE_WIDTH).read_partition(
            number, plan.ranges
        )
        nodes = nodes[np.argsort(nodes[:, 1])]
        shuffle = plan.shuffle("edges", len(plan.batches), EDGE_WIDTH)
        edges = shuffle.read_partition(number, range(plan.n_pair_ranges))
        pairs, valid = _node_indices(nodes[:, 1], edges[:, 1:3])
        pairs, edges = pairs[valid], edges[valid]
        # A known pair is of no use if its ends are in different components now.
        same = nodes[pairs[:, 0], 0] == nodes[pairs[:, 1], 0]
        pairs, edges = pairs[same], edges[same]
        return VerificationBatch(nodes, pairs, edges[:, 3], words_to_floats(edges[:, 4]).copy())


def request_shingles(plan: DedupPlan, number: int) -> dict[str, Any]:
    """Request the shingles of components in which a similarity is unknown."""
    batch = VerificationBatch.receive(plan, number)
    nodes = batch.nodes
    candidate = (batch.tags & KNOWN_ONLY) == 0
    unknown = candidate & np.isnan(batch.similarity)
    # A cluster is a subset of what is connected by pairs that pass or are unknown.
    connecting = unknown | (candidate & (batch.similarity >= plan.config.threshold))
    component = connected_components(len(nodes), batch.pairs[connecting])
    # If all candidates are known, other pairs within their clusters may still be unknown.
    added, _ = _intra_cluster_pairs(plan, batch, batch.similarity)
    missing = added[~_look_up(batch, added)[1]]
    incomplete = np.concatenate([component[batch.pairs[unknown, 0]], component[missing[:, 0]]])
    requested = nodes[np.isin(component, incomplete), 1]
    shuffle = plan.shuffle_to_ranges("requests", REQUEST_WIDTH)
    shuffle.write_rows(number, plan.range_of(requested), requested.reshape(-1, 1))
    return {"requested": len(requested)}


def verify(plan: DedupPlan, number: int) -> dict[str, Any]:
    """Compare the pairs of a batch; send the documents their clusters, and the compared pairs on."""
    batch = VerificationBatch.receive(plan, number)
    shingle_sets = _receive_shingles(plan, number, batch.nodes[:, 1])
    candidate = (batch.tags & KNOWN_ONLY) == 0
    similarity = batch.similarity.copy()
    unknown = np.flatnonzero(candidate & np.isnan(similarity))
    similarity[unknown] = _compare(plan, shingle_sets, batch.pairs[unknown])
    added, uncompared = _intra_cluster_pairs(plan, batch, similarity)
    values, known = _look_up(batch, added)
    values[~known] = _compare(plan, shingle_sets, added[~known])
    pairs = np.concatenate([batch.pairs[candidate], added])
    tags = np.concatenate([batch.tags[candidate], np.full(len(added), NO_BAND)])
    values = np.concatenate([similarity[candidate], values])
    passed = values >= plan.config.threshold
    cluster = connected_components(len(batch.nodes), pairs[passed])
    names, sizes = _name_clusters(batch.nodes, cluster)
    _send_labels(plan, number, batch.nodes, names, sizes)
    halves = np.where(passed[:, None], names[pairs[:, 0]], 0).astype(np.uint64)
    ends = batch.nodes[:, 1][pairs]
    rows = np.column_stack([halves, ends, tags, floats_to_words(values)])
    shuffle = plan.shuffle("compared", plan.n_files, COMPARED_WIDTH)
    shuffle.write_rows(number, plan.file_of(rows[:, 2]), rows)
    n_candidates = int(candidate.sum())
    return {
        "compared": int(np.isnan(batch.similarity[candidate]).sum() + (~known).sum()),
        "verified": int(passed[:n_candidates].sum()),
        "intra_cluster": len(added),
        "intra_cluster_verified": int(passed[n_candidates:].sum()),
        "uncompared": uncompared,
    }


def _intra_cluster_pairs(
    plan: DedupPlan, batch: VerificationBatch, similarity: F64
) -> tuple[I64, int]:
    """Return the pairs within clusters that share no band, and the number of pairs left out.

    Survivor selection needs the similarity of each member to the survivor, whichever member that
    is. Up to ``exhaustive_cluster_size`` members all pairs are returned; in a larger cluster each
    member is paired with those most likely to survive (the longest of all, and the longest of the
    first sources) and with its neighbors in length.
    """
    config = plan.config
    candidate = (batch.tags & KNOWN_ONLY) == 0
    with np.errstate(invalid="ignore"):
        passed = candidate & (similarity >= config.threshold)
    n = len(batch.nodes)
    cluster = connected_components(n, batch.pairs[passed])
    shorter = np.iinfo(np.int64).max - batch.nodes[:, 4].astype(np.int64)
    high, low, source = batch.nodes[:, 2], batch.nodes[:, 3], batch.nodes[:, 6]
    order = np.lexsort((low, high, shorter, cluster))
    first, sizes = find_equal_runs(cluster[order].astype(np.uint64))
    small = (sizes > 2) & (sizes <= config.exhaustive_cluster_size)
    large = sizes > config.exhaustive_cluster_size
    pairs = [all_pairs(order.astype(np.uint64), first[small], sizes[small])]
    if large.any():
        ranked = np.lexsort((low, high, shorter, source, cluster)).astype(np.uint64)
        members, neighbors = order.astype(np.uint64), config.neighbors
        pairs.append(bounded_pairs(members, first[large], sizes[large], N_REFERENCES, neighbors))
        pairs.append(bounded_pairs(ranked, first[large], sizes[large], N_REFERENCES, 0))
    ends = np.sort(np.concatenate(pairs).astype(np.int64), axis=1)
    codes = np.unique(ends[:, 0] * n + ends[:, 1])
    candidates = batch.pairs[candidate]
    added = codes[~np.isin(codes, candidates[:, 0] * n + candidates[:, 1])]
    inside = cluster[candidates[:, 0]] == cluster[candidates[:, 1]]
    possible = int((sizes * (sizes - 1) // 2).sum())
    uncompared = possible - len(added) - int(inside.sum())
    return np.column_stack([added // n, added % n]) if n else ends, uncompared


def _look_up(batch: VerificationBatch, pairs: I64) -> tuple[F64, Bools]:
    """Return the similarity of pairs that were compared before (else NaN), and which those are."""
    values = np.full(len(pairs), np.nan)
    extra = (batch.tags & KNOWN_ONLY) != 0
    if extra.any() and len(pairs):
        n = len(batch.nodes)
        codes = batch.pairs[extra, 0] * n + batch.pairs[extra, 1]
        order = np.argsort(codes)
        codes, similarity = codes[order], batch.similarity[extra][order]
        keys = pairs[:, 0] * n + pairs[:, 1]
        index = np.minimum(np.searchsorted(codes, keys), len(codes) - 1)
        hit = codes[index] == keys
        values[hit] = similarity[index[hit]]
    return values, ~np.isnan(values)


def _node_indices(documents: U64, ends: U64) -> tuple[I64, Bools]:
    """Return documents as indices of nodes, and which rows have nodes at both ends."""
    if not len(documents):
        return np.zeros(ends.shape, np.int64), np.zeros(len(ends), bool)
    index = np.minimum(np.searchsorted(documents, ends), len(documents) - 1)
    return index.astype(np.int64), (documents[index] == ends).all(axis=1)


def _name_clusters(nodes: U64, cluster: I64) -> tuple[U64, U64]:
    """Return the name of each node's cluster and its number of documents.

    The name is the digest of the shortest text in the cluster.
    """
    order = np.lexsort((nodes[:, 3], nodes[:, 2], nodes[:, 4], cluster))
    first, sizes = find_equal_runs(cluster[order].astype(np.uint64))
    names, documents = np.empty((len(nodes), 2), np.uint64), np.empty(len(nodes), np.uint64)
    if len(nodes):
        names[order] = np.repeat(nodes[order[first], 2:4], sizes, axis=0)
        documents[order] = np.repeat(np.add.reduceat(nodes[order, 5], first), sizes)
    return names, documents


def _send_labels(plan: DedupPlan, number: int, nodes: U64, names: U64, sizes: U64) -> None:
    """Send clusters to single documents, and of exact groups to the partition of their digest."""
    rows = np.column_stack([nodes[:, 1], names, sizes])
    single = nodes[:, 5] == 1
    clustered = rows[single & (sizes > 1)]
    plan.shuffle_to_ranges("labels", LABEL_WIDTH).write_rows(
        number, plan.range_of(clustered[:, 0]), clustered
    )
    shuffle = plan.shuffle("group_labels", len(plan.exact_partitions), LABEL_WIDTH)
    shuffle.write_rows(number, plan.exact_partition_of(nodes[~single, 2]), rows[~single])


def _compare(plan: DedupPlan, shingle_sets: ShingleSets, pairs: I64) -> F64:
    """Return the similarity of pairs of nodes."""
    if (shingle_sets.start[pairs] < 0).any():
        raise IntegrityError("dedup: the texts of a pair to compare were not requested")
    estimated = plan.config.verification == "signature"
    return _similarities(shingle_sets, pairs, plan.config.num_permutations if estimated else 0)


@jit
def _similarities(sets: ShingleSets, pairs: I64, n_values: int) -> F64:
    """Compare signatures of ``n_values`` values, or shingle sets if it is 0."""
    out = np.zeros(len(pairs))
    for k in range(len(pairs)):
        start, other_start = sets.start[pairs[k, 0]], sets.start[pairs[k, 1]]
        a = sets.flat[start : start + sets.length[pairs[k, 0]]]
        b = sets.flat[other_start : other_start + sets.length[pairs[k, 1]]]
        out[k] = estimate_jaccard(a, b, n_values) if n_values else jaccard(a, b)
    return out


def _receive_shingles(plan: DedupPlan, number: int, documents: U64) -> ShingleSets:
    """Read the shingles that the part groups sent for a batch's documents."""
    start = np.full(len(documents), -1, np.int64)
    length = np.zeros(len(documents), np.int64)
    shuffle = plan.shuffle("shingles", len(plan.batches), 1)
    flat = concat(shuffle.iter_slices(number, range(plan.n_readers)), plan.config.partition_bytes)
    records = _parse_records(flat)
    index = np.searchsorted(documents, records[:, 0].astype(np.uint64))
    start[index], length[index] = records[:, 1], records[:, 2]
    return ShingleSets(flat, start, length)


def concat(slices: Iterable[U64], max_bytes: int) -> U64:
    """Concatenate slices; if they exceed ``max_bytes``, in a file that is mapped into memory.

    Only a component that is larger than a batch should be exceeds it; its pages are loaded and
    evicted as its pairs are compared.
    """
    pending: list[U64] = []
    size = 0
    with ExitStack() as stack:
        file: IO[bytes] | None = None
        for piece in slices:
            size += piece.nbytes
            pending.append(piece)
            if file is None and size > max_bytes:
                file = stack.enter_context(tempfile.TemporaryFile())
            if file is not None:
                file.writelines(as_bytes(item) for item in pending)
                pending = []
        if file is not None:
            file.flush()
            # The mapping stays valid after the file object is closed and its name is deleted.
            return np.memmap(file, np.uint64, "r").view(np.ndarray)
    return np.concatenate(pending) if pending else np.zeros(0, np.uint64)


@jit
def _parse_records(flat: U64) -> I64:
    """Return document, first word and number of words of each record: int64[n, 3]."""
    n = 0
    position = 0
    while position < len(flat):
        position += 2 + int(flat[position + 1])
        n += 1
    out = np.empty((n, 3), np.int64)
    position = 0
    for k in range(n):
        out[k, 0] = flat[position]
        out[k, 1] = position + 2
        out[k, 2] = flat[position + 1]
        position += 2 + out[k, 2]
    return out
