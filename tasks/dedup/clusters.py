"""Clusters: documents connected by verified edges."""

import numpy as np
import numpy.typing as npt

from infra.jit import kernel

I64 = npt.NDArray[np.int64]


@kernel
def _root(parent: I64, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel
def components(n: int, edges: I64) -> I64:
    """The connected component of each of n nodes, named by its smallest member.

    Args:
        n: number of nodes.
        edges: int64[k, 2].

    Returns:
        int64[n]; the result does not depend on the order of the edges.
    """
    parent = np.arange(n)
    for k in range(len(edges)):
        a = _root(parent, edges[k, 0])
        b = _root(parent, edges[k, 1])
        # Linking to the smaller root keeps each tree's root its smallest member.
        if a < b:
            parent[b] = a
        else:
            parent[a] = b
    for i in range(n):
        parent[i] = _root(parent, i)
    return parent
