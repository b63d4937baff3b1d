"""Connected components of the nominated pairs, in one task or in rounds over many.

Where all pairs fit into a worker, one union-find does it. Beyond that, large-star and small-star
steps alternate (Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii: Connected Components in
MapReduce and Beyond, SoCC 2014): each is a pass over the edges, grouped by one end, in which a
worker holds one partition. They end when a pass changes nothing, after O(log(n)**2) rounds; the
name of a component is its smallest document either way.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit
from infra.compute.shuffle import Shuffle
from infra.dataset.dataset import IntegrityError
from tasks.dedup.candidates.candidate_pairs import load_pairs
from tasks.dedup.shuffle_plan import ShufflePlan, find_equal_runs

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

EDGE_WIDTH, STAR_WIDTH = 2, 2  # rows: larger document, smaller document
MAX_ROUNDS = 100  # of both steps; far more than a corpus of any size needs


class NotConvergedError(IntegrityError):
    """Rounds that go on changing components, which the algorithm excludes."""


@jit
def _find_root(parent: I64, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@jit
def connected_components(n: int, edges: I64) -> I64:
    """The connected component of each of n nodes, named by its smallest member.

    Args:
        n: number of nodes.
        edges: int64[k, 2].

    Returns:
        int64[n]; the result does not depend on the order of the edges.
    """
    parent = np.arange(n)
    for k in range(len(edges)):
        a = _find_root(parent, edges[k, 0])
        b = _find_root(parent, edges[k, 1])
        # Linking to the smaller root keeps each tree's root its smallest member.
        if a < b:
            parent[b] = a
        else:
            parent[a] = b
    for i in range(n):
        parent[i] = _find_root(parent, i)
    return parent


def pairs_to_stars(pairs: U64) -> U64:
    """The components of pairs of documents, as stars.

    Args:
        pairs: uint64[k, 2].

    Returns:
        uint64[m, 2]: each document but the smallest of its component, and that smallest; sorted.
    """
    nodes, places = np.unique(pairs.reshape(-1), return_inverse=True)
    found = connected_components(len(nodes), places.reshape(-1, 2).astype(np.int64))
    others = np.flatnonzero(found != np.arange(len(nodes)))
    return np.column_stack([nodes[others], nodes[found[others]]])


def star_step(edges: U64, *, large: bool) -> U64:
    """One step over edges grouped by their first end, which a partition holds whole.

    Args:
        edges: uint64[k, 2], node and neighbour; for a small-star, neighbours smaller than the node.
        large: connect the larger neighbours to the smallest of the neighbourhood; else the smaller
            ones and the node itself.

    Returns:
        uint64[m, 2]: distinct, larger end first.
    """
    if not len(edges):
        return np.zeros((0, 2), np.uint64)
    edges = _unique_edges(edges)
    node, neighbour = edges[:, 0], edges[:, 1]
    first, sizes = find_equal_runs(node)
    least = np.minimum(neighbour[first], node[first])  # neighbours are sorted
    of_edge = np.repeat(least, sizes)
    if large:
        chosen = neighbour > node
        return np.column_stack([neighbour[chosen], of_edge[chosen]])
    chosen = neighbour != of_edge
    moved = np.column_stack([neighbour[chosen], of_edge[chosen]])
    own = np.column_stack([node[first], least])
    return np.concatenate([moved, own[own[:, 0] != own[:, 1]]])


def _unique_edges(edges: U64) -> U64:
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    keep = np.ones(len(edges), bool)
    keep[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    return edges[keep]


def init_stars(plan: ShufflePlan, partition: int) -> dict[str, Any]:
    """Send the pairs of a range to the first large-star step: each to both its ends."""
    pairs = pairs_to_stars(load_pairs(plan, partition)[:, :2])  # as few edges as the range needs
    both = np.concatenate([pairs, pairs[:, ::-1]])
    _shuffle(plan, 0).write_rows(partition, plan.range_index(both[:, 0]), both)
    return {}


def run_star_step(plan: ShufflePlan, number: int, partition: int) -> dict[str, Any]:
    """One step over one range; even ones are large-star, odd ones small-star.

    Returns:
        ``within``: what `_max_intra_cluster_pairs` says of the components, once a large-star step changes nothing:
        then each range makes the whole stars of its documents.
    """
    senders = range(plan.n_ranges)
    edges = star_step(
        _shuffle(plan, number).read_partition(partition, senders), large=number % 2 == 0
    )
    edges = _unique_edges(edges) if len(edges) else edges
    out = edges
    if number % 2:  # a large-star step follows: it wants every edge at both its ends
        out = np.concatenate([edges, edges[:, ::-1]])
    _shuffle(plan, number + 1).write_rows(partition, plan.range_index(out[:, 0]), out)
    return {"within": _max_intra_cluster_pairs(plan, edges)}


def convergence_state(plan: ShufflePlan, number: int, partition: int) -> dict[str, Any]:
    """What a small-star step will receive.

    Returns:
        ``edges`` and ``sum``: how many there are, and a sum over them that any change changes.
    """
    edges = _shuffle(plan, number).read_partition(partition, range(plan.n_ranges))
    edges = _unique_edges(edges) if len(edges) else edges
    mixed = edges[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ edges[:, 1]
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    plan.save(f"stars/{partition}", edges)
    return {"edges": len(edges), "sum": int(mixed.sum(dtype=np.uint64))}


def connect_all(plan: ShufflePlan) -> dict[str, Any]:
    """All components in one task."""
    found = [load_pairs(plan, partition)[:, :2] for partition in range(plan.n_ranges)]
    stars = pairs_to_stars(np.concatenate(found))
    place = plan.range_index(stars[:, 0])
    for partition in range(plan.n_ranges):
        plan.save(f"stars/{partition}", stars[place == partition])
    return {"within": _max_intra_cluster_pairs(plan, stars)}


def _max_intra_cluster_pairs(plan: ShufflePlan, stars: U64) -> int:
    """The most pairs that will be compared within the clusters of components, given as stars."""
    _, others = np.unique(stars[:, 1], return_counts=True)
    return plan.max_intra_cluster_pairs(others + 1)


def _shuffle(plan: ShufflePlan, number: int) -> Shuffle:
    return plan.shuffle(f"star-{number:03d}", plan.n_ranges, EDGE_WIDTH)
