"""Connected components of the candidate pairs, in one task or in rounds over many.

If all pairs fit into one worker's memory, one union-find is enough. Otherwise large-star and
small-star steps alternate (Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii: Connected Components
in MapReduce and Beyond, SoCC 2014): each is a pass over the edges, grouped by one end, in which a
worker holds one partition. They end when a pass changes nothing, after O(log(n)**2) rounds. Either
way a component is named by its smallest document.
"""

from typing import Any

import numpy as np

from infra.compute.arrays import I64, U64
from infra.compute.jit import jit
from infra.compute.shuffle import Shuffle
from infra.dataset.manifest import IntegrityError
from tasks.dedup.candidates.candidate_pairs import load_pairs
from tasks.dedup.shuffle_plan import DedupPlan, find_equal_runs

# Rows of edges and stars: larger document, smaller document.
EDGE_WIDTH, STAR_WIDTH = 2, 2
# Rounds of both steps; far more than a corpus of any size needs.
MAX_ROUNDS = 100


class NotConvergedError(IntegrityError):
    """The components still change after `MAX_ROUNDS`, which the algorithm rules out."""


@jit
def _find_root(parent: I64, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@jit
def connected_components(n: int, edges: I64) -> I64:
    """Return the connected component of each of n nodes, named by its smallest member: int64[n].

    ``edges`` is int64[k, 2], in any order.
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
    """Return the components of pairs of documents as stars.

    That is uint64[m, 2]: each document but the smallest of its component, and that smallest; sorted.
    """
    nodes, indices = np.unique(pairs.reshape(-1), return_inverse=True)
    roots = connected_components(len(nodes), indices.reshape(-1, 2).astype(np.int64))
    others = np.flatnonzero(roots != np.arange(len(nodes)))
    return np.column_stack([nodes[others], nodes[roots[others]]])


def star_step(edges: U64, *, large: bool) -> U64:
    """Run one step over the edges of some nodes; all edges of a node must be present.

    Args:
        edges: uint64[k, 2], node and neighbor; in a small-star step, neighbors smaller than the
            node.
        large: connect the larger neighbors to the smallest of the neighborhood; otherwise connect
            the smaller ones and the node itself.

    Returns:
        uint64[m, 2]: larger end first.
    """
    if not len(edges):
        return np.zeros((0, 2), np.uint64)
    edges = _unique_edges(edges)
    node, neighbor = edges[:, 0], edges[:, 1]
    first, sizes = find_equal_runs(node)
    smallest = np.minimum(neighbor[first], node[first])  # neighbors are sorted
    of_edge = np.repeat(smallest, sizes)
    if large:
        chosen = neighbor > node
        return np.column_stack([neighbor[chosen], of_edge[chosen]])
    chosen = neighbor != of_edge
    moved = np.column_stack([neighbor[chosen], of_edge[chosen]])
    own = np.column_stack([node[first], smallest])
    return np.concatenate([moved, own[own[:, 0] != own[:, 1]]])


def _unique_edges(edges: U64) -> U64:
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    keep = np.ones(len(edges), bool)
    keep[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    return edges[keep]


def init_stars(plan: DedupPlan, partition: int) -> dict[str, Any]:
    """Send the pairs of a range to the first large-star step, each to both its ends."""
    pairs = pairs_to_stars(load_pairs(plan, partition)[:, :2])  # the fewest edges that connect them
    both = np.concatenate([pairs, pairs[:, ::-1]])
    _shuffle(plan, 0).write_rows(partition, plan.pair_range_of(both[:, 0]), both)
    return {}


def run_star_step(plan: DedupPlan, number: int, partition: int) -> dict[str, Any]:
    """Run one step over one range; even numbers are large-star steps, odd ones small-star steps.

    Returns `_max_intra_cluster_pairs` of the range's components. It is valid once a large-star step
    changes nothing: then each range holds the whole stars of its documents.
    """
    mappers = range(plan.n_pair_ranges)
    edges = star_step(
        _shuffle(plan, number).read_partition(partition, mappers), large=number % 2 == 0
    )
    edges = _unique_edges(edges)
    out = edges
    if number % 2:  # the next step is large-star: it needs every edge at both its ends
        out = np.concatenate([edges, edges[:, ::-1]])
    _shuffle(plan, number + 1).write_rows(partition, plan.pair_range_of(out[:, 0]), out)
    return {"intra_cluster": _max_intra_cluster_pairs(plan, edges)}


def convergence_state(plan: DedupPlan, number: int, partition: int) -> dict[str, Any]:
    """Save the edges that a small-star step receives; return their number and a checksum.

    The checksum does not depend on their order.
    """
    edges = _shuffle(plan, number).read_partition(partition, range(plan.n_pair_ranges))
    edges = _unique_edges(edges)
    mixed = edges[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ edges[:, 1]
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    plan.save(f"stars/{partition}", edges)
    return {"edges": len(edges), "sum": int(mixed.sum(dtype=np.uint64))}


def connect_all(plan: DedupPlan) -> dict[str, Any]:
    """Find all components in one task."""
    pairs = [load_pairs(plan, partition)[:, :2] for partition in range(plan.n_pair_ranges)]
    stars = pairs_to_stars(np.concatenate(pairs))
    partition_of = plan.pair_range_of(stars[:, 0])
    for partition in range(plan.n_pair_ranges):
        plan.save(f"stars/{partition}", stars[partition_of == partition])
    return {"intra_cluster": _max_intra_cluster_pairs(plan, stars)}


def _max_intra_cluster_pairs(plan: DedupPlan, stars: U64) -> int:
    """Return an upper bound on the pairs compared within components, given as stars."""
    _, others = np.unique(stars[:, 1], return_counts=True)
    return plan.max_intra_cluster_pairs(others + 1)


def _shuffle(plan: DedupPlan, number: int) -> Shuffle:
    return plan.shuffle(f"star-{number:03d}", plan.n_pair_ranges, EDGE_WIDTH)
