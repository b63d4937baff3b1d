"""Verification: nominated pairs are compared, and what holds becomes clusters."""

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit
from infra.compute.shuffle import as_bytes
from infra.dataset.dataset import IntegrityError
from tasks.dedup.candidates.candidate_pairs import KNOWN_ONLY, NO_BAND
from tasks.dedup.candidates.components import connected_components
from tasks.dedup.candidates.lsh import all_pairs, bounded_pairs
from tasks.dedup.minhash.b_bit import estimate_jaccard
from tasks.dedup.shuffle_plan import (
    N_REFERENCES,
    ShufflePlan,
    find_equal_runs,
    floats_to_words,
    words_to_floats,
)
from tasks.dedup.verification.batches import EDGE_WIDTH, NODE_WIDTH, REQUEST_WIDTH

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

# Rows of the exchanges. Marks: document, cluster's digest halves, its documents. Compared: the
# same two halves (zero where a pair failed), documents, band and flags, similarity.
LABEL_WIDTH, COMPARED_WIDTH = 4, 6


@jit
def jaccard(a: U64, b: U64) -> float:
    """``|a & b| / |a | b|`` of two sorted arrays of distinct values; 0 for two empty ones."""
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


@dataclass(frozen=True)
class ShingleSets:
    """What is compared of the documents of a bin.

    Attributes:
        flat: uint64 words, one document's after the other's.
        start: int64[nodes], where a node's words begin; -1 if it has none here.
        length: int64[nodes].
    """

    flat: U64
    start: I64
    length: I64


@dataclass(frozen=True)
class VerificationBatch:
    """A bin's nodes and the pairs between them, as indices of nodes.

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
    def receive(plan: ShufflePlan, number: int) -> "VerificationBatch":
        """What was sent to a bin."""
        nodes = plan.shuffle("nodes", len(plan.batches), NODE_WIDTH).read_partition(
            number, plan.part_groups
        )
        nodes = nodes[np.argsort(nodes[:, 1])]
        exchange = plan.shuffle("edges", len(plan.batches), EDGE_WIDTH)
        edges = exchange.read_partition(number, range(plan.n_ranges))
        pairs, here = _node_indices(nodes[:, 1], edges[:, 1:3])
        pairs, edges = pairs[here], edges[here]
        # A known pair of two components that are not connected any more is of no use.
        same = nodes[pairs[:, 0], 0] == nodes[pairs[:, 1], 0]
        pairs, edges = pairs[same], edges[same]
        return VerificationBatch(nodes, pairs, edges[:, 3], words_to_floats(edges[:, 4]).copy())


def request_shingles(plan: ShufflePlan, number: int) -> dict[str, Any]:
    """Ask the blocks for the words of components in which something is yet unknown."""
    found = VerificationBatch.receive(plan, number)
    nodes = found.nodes
    nominated = (found.tags & KNOWN_ONLY) == 0
    unknown = nominated & np.isnan(found.similarity)
    # Clusters lie within what is connected by pairs that hold or are yet unknown.
    joined = unknown | (nominated & (found.similarity >= plan.config.threshold))
    of = connected_components(len(nodes), found.pairs[joined])
    # Where all nominated pairs are known, the pairs within their clusters may still not be.
    more, _ = _intra_cluster_pairs(plan, found, found.similarity)
    missing = more[~_look_up(found, more)[1]]
    wanted = np.concatenate([of[found.pairs[unknown, 0]], of[missing[:, 0]]])
    asked = nodes[np.isin(of, wanted), 1]
    exchange = plan.shuffle_to_part_groups("requests", REQUEST_WIDTH)
    exchange.write_rows(number, plan.part_group_index(asked), asked.reshape(-1, 1))
    return {"requested": len(asked)}


def verify(plan: ShufflePlan, number: int) -> dict[str, Any]:
    """Compare the pairs of a bin; tell the documents their cluster, and keep what was compared."""
    found = VerificationBatch.receive(plan, number)
    with_words = _receive_shingles(plan, number, found.nodes[:, 1])
    nominated = (found.tags & KNOWN_ONLY) == 0
    similarity = found.similarity.copy()
    unknown = np.flatnonzero(nominated & np.isnan(similarity))
    similarity[unknown] = _compare(plan, with_words, found.pairs[unknown])
    more, left_out = _intra_cluster_pairs(plan, found, similarity)
    values, known = _look_up(found, more)
    values[~known] = _compare(plan, with_words, more[~known])
    pairs = np.concatenate([found.pairs[nominated], more])
    tags = np.concatenate([found.tags[nominated], np.full(len(more), NO_BAND)])
    values = np.concatenate([similarity[nominated], values])
    passed = values >= plan.config.threshold
    cluster = connected_components(len(found.nodes), pairs[passed])
    names, sizes = _name_clusters(found.nodes, cluster)
    _send_labels(plan, number, found.nodes, names, sizes)
    halves = np.where(passed[:, None], names[pairs[:, 0]], 0).astype(np.uint64)
    ends = found.nodes[:, 1][pairs]
    rows = np.column_stack([halves, ends, tags, floats_to_words(values)])
    exchange = plan.shuffle("compared", plan.n_files, COMPARED_WIDTH)
    exchange.write_rows(number, plan.file_index(rows[:, 2]), rows)
    return {
        "compared": int(np.isnan(found.similarity[nominated]).sum() + (~known).sum()),
        "verified": int(passed[: int(nominated.sum())].sum()),
        "within": len(more),
        "within_verified": int(passed[int(nominated.sum()) :].sum()),
        "within_left_out": left_out,
    }


def _intra_cluster_pairs(
    plan: ShufflePlan, batch: VerificationBatch, similarity: F64
) -> tuple[I64, int]:
    """Pairs within clusters that no band nominated, and how many were left out.

    The election needs to know whom its choice resembles, whichever member it is. All pairs up to
    ``cluster_pairs`` members; in a larger cluster each member with those most likely to be chosen,
    the longest of all and the longest of the first sources, and with its neighbours in length.
    """
    config = plan.config
    nominated = (batch.tags & KNOWN_ONLY) == 0
    with np.errstate(invalid="ignore"):
        passed = nominated & (similarity >= config.threshold)
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
        members, near = order.astype(np.uint64), config.neighbors
        pairs.append(bounded_pairs(members, first[large], sizes[large], N_REFERENCES, near))
        pairs.append(bounded_pairs(ranked, first[large], sizes[large], N_REFERENCES, 0))
    ends = np.sort(np.concatenate(pairs).astype(np.int64), axis=1)
    codes = np.unique(ends[:, 0] * n + ends[:, 1])
    already = batch.pairs[nominated]
    seen = already[:, 0] * n + already[:, 1]
    more = codes[~np.isin(codes, seen)]
    inside = cluster[already[:, 0]] == cluster[already[:, 1]]
    possible = int((sizes * (sizes - 1) // 2).sum())
    left_out = possible - len(more) - int(inside.sum())
    return np.column_stack([more // n, more % n]) if n else ends, left_out


def _look_up(batch: VerificationBatch, pairs: I64) -> tuple[F64, npt.NDArray[np.bool_]]:
    """The similarity of pairs that were compared before, and which those are."""
    values = np.full(len(pairs), np.nan)
    extra = (batch.tags & KNOWN_ONLY) != 0
    if extra.any() and len(pairs):
        n = len(batch.nodes)
        codes = batch.pairs[extra, 0] * n + batch.pairs[extra, 1]
        order = np.argsort(codes)
        codes, similar = codes[order], batch.similarity[extra][order]
        wanted = pairs[:, 0] * n + pairs[:, 1]
        place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        hit = codes[place] == wanted
        values[hit] = similar[place[hit]]
    return values, ~np.isnan(values)


def _node_indices(documents: U64, ends: U64) -> tuple[I64, npt.NDArray[np.bool_]]:
    """Documents as indices of nodes, and the rows of which both ends are nodes."""
    if not len(documents):
        return np.zeros(ends.shape, np.int64), np.zeros(len(ends), bool)
    place = np.minimum(np.searchsorted(documents, ends), len(documents) - 1)
    return place.astype(np.int64), (documents[place] == ends).all(axis=1)


def _name_clusters(nodes: U64, cluster: I64) -> tuple[U64, U64]:
    """The digest of each node's cluster (of its shortest text) and its number of documents."""
    order = np.lexsort((nodes[:, 3], nodes[:, 2], nodes[:, 4], cluster))
    first, sizes = find_equal_runs(cluster[order].astype(np.uint64))
    names, documents = np.empty((len(nodes), 2), np.uint64), np.empty(len(nodes), np.uint64)
    if len(nodes):
        names[order] = np.repeat(nodes[order[first], 2:4], sizes, axis=0)
        documents[order] = np.repeat(np.add.reduceat(nodes[order, 5], first), sizes)
    return names, documents


def _send_labels(plan: ShufflePlan, number: int, nodes: U64, names: U64, sizes: U64) -> None:
    """Tell single documents their cluster; of exact groups, the partition of their digest."""
    rows = np.column_stack([nodes[:, 1], names, sizes])
    single = nodes[:, 5] == 1
    told = rows[single & (sizes > 1)]
    plan.shuffle_to_part_groups("labels", LABEL_WIDTH).write_rows(
        number, plan.part_group_index(told[:, 0]), told
    )
    exchange = plan.shuffle("group_labels", len(plan.exact_partitions), LABEL_WIDTH)
    exchange.write_rows(number, plan.exact_index(nodes[~single, 2]), rows[~single])


def _compare(plan: ShufflePlan, shingle_sets: ShingleSets, pairs: I64) -> F64:
    """The similarity of pairs of nodes."""
    if (shingle_sets.start[pairs] < 0).any():
        raise IntegrityError("dedup: a pair is to be compared whose texts were not asked for")
    if plan.config.verification == "signature":
        return _estimates(
            shingle_sets.flat,
            shingle_sets.start,
            shingle_sets.length,
            pairs,
            plan.config.num_permutations,
        )
    return _jaccards(shingle_sets.flat, shingle_sets.start, shingle_sets.length, pairs)


@jit
def _jaccards(flat: U64, start: I64, length: I64, pairs: I64) -> F64:
    out = np.zeros(len(pairs))
    for k in range(len(pairs)):
        a = start[pairs[k, 0]]
        b = start[pairs[k, 1]]
        out[k] = jaccard(flat[a : a + length[pairs[k, 0]]], flat[b : b + length[pairs[k, 1]]])
    return out


@jit
def _estimates(flat: U64, start: I64, length: I64, pairs: I64, n_values: int) -> F64:
    out = np.zeros(len(pairs))
    for k in range(len(pairs)):
        a = start[pairs[k, 0]]
        b = start[pairs[k, 1]]
        out[k] = estimate_jaccard(
            flat[a : a + length[pairs[k, 0]]], flat[b : b + length[pairs[k, 1]]], n_values
        )
    return out


def _receive_shingles(plan: ShufflePlan, number: int, documents: U64) -> ShingleSets:
    """What the blocks sent for a bin's documents."""
    start = np.full(len(documents), -1, np.int64)
    length = np.zeros(len(documents), np.int64)
    exchange = plan.shuffle("shingles", len(plan.batches), 1)
    flat = concat(exchange.iter_slices(number, range(plan.n_readers)), plan.config.partition_bytes)
    found = _parse_records(flat)
    place = np.searchsorted(documents, found[:, 0].astype(np.uint64))
    start[place], length[place] = found[:, 1], found[:, 2]
    return ShingleSets(flat, start, length)


def concat(slices: Iterable[U64], max_bytes: int) -> U64:
    """Slices one after the other; in a file that is mapped into memory if they take more room.

    Only a component larger than a bin is meant to be gets that far; its pages come and go with
    the pairs that are compared.
    """
    held: list[U64] = []
    size = 0
    with ExitStack() as stack:
        file: IO[bytes] | None = None
        for piece in slices:
            size += piece.nbytes
            held.append(piece)
            if file is None and size > max_bytes:
                file = stack.enter_context(tempfile.TemporaryFile())
            if file is not None:
                file.writelines(as_bytes(item) for item in held)
                held = []
        if file is not None:
            file.flush()
            # The map outlives the file object, and the file its name.
            return np.memmap(file, np.uint64, "r").view(np.ndarray)
    return np.concatenate(held) if held else np.zeros(0, np.uint64)


@jit
def _parse_records(flat: U64) -> I64:
    """Document, first word and number of words of each record: int64[n, 3]."""
    n = 0
    at = 0
    while at < len(flat):
        at += 2 + int(flat[at + 1])
        n += 1
    out = np.empty((n, 3), np.int64)
    at = 0
    for k in range(n):
        out[k, 0] = flat[at]
        out[k, 1] = at + 2
        out[k, 2] = flat[at + 1]
        at += 2 + out[k, 2]
    return out
