"""Survivor selection: which member of each duplicate cluster is kept.

Documents are processed in the recipe's order of preference, then by id, then by document number. A
document is dropped as an exact duplicate if its exact group already has a survivor, and as a
near-duplicate if a verified pair connects its group to a group that has one; otherwise it survives.
So every dropped document has a survivor that is itself similar enough, however long the chains in
its cluster are.
"""

from dataclasses import dataclass

import numpy as np

from infra.compute.arrays import F64, I64, Bools
from infra.compute.jit import jit

SAME_URL, EXACT, NEAR = "url_duplicate", "exact_duplicate", "near_duplicate"
# The pair was compared although its documents share no band.
NO_BAND = -1
NO_SURVIVOR = -1


@dataclass(frozen=True)
class Survivors:
    """The survivors of n documents.

    Attributes:
        survivor: int64[n], for each dropped document the one it is dropped for; `NO_SURVIVOR` for
            all others.
        exact: bool[n], whether the two belong to one exact group.
        similarity: float64[n], their similarity.
        band: int64[n], the first band that the pair shares; `NO_BAND` for none.
    """

    survivor: I64
    exact: Bools
    similarity: F64
    band: I64


def choose_survivors(order: I64, group: I64, pairs: I64, similarity: F64, band: I64) -> Survivors:
    """Choose which documents are dropped, and for which survivor.

    Args:
        order: int64[m], the documents that passed all other rules, the most preferred first.
        group: int64[n], the exact group of every document, from 0; each document has one.
        pairs: int64[k, 2], verified pairs of groups, each once, in any direction.
        similarity: float64[k], of each pair.
        band: int64[k], the first band that each pair shares.
    """
    groups = int(group.max(initial=-1)) + 1
    ends = np.concatenate([pairs[:, 0], pairs[:, 1]])
    others = np.concatenate([pairs[:, 1], pairs[:, 0]])
    by_group = np.argsort(ends, kind="stable")
    start = np.searchsorted(ends[by_group], np.arange(groups + 1))
    edge = by_group % max(len(pairs), 1)
    result = Survivors(
        np.full(len(group), NO_SURVIVOR),
        np.zeros(len(group), np.bool_),
        np.zeros(len(group)),
        np.full(len(group), NO_BAND),
    )
    _choose_survivors(
        order,
        group,
        start,
        others[by_group],
        similarity[edge],
        band[edge],
        result.survivor,
        result.exact,
        result.similarity,
        result.band,
    )
    return result


@jit
def _choose_survivors(
    order: I64,
    group: I64,
    start: I64,
    neighbor: I64,
    similarity: F64,
    band: I64,
    survivor: I64,
    exact: Bools,
    survivor_similarity: F64,
    survivor_band: I64,
) -> None:
    rank_of_survivor = np.full(len(start), -1)  # by group: its survivor's index in the order
    for rank in range(len(order)):
        document = order[rank]
        own = group[document]
        if rank_of_survivor[own] >= 0:
            survivor[document] = order[rank_of_survivor[own]]
            exact[document] = True
            survivor_similarity[document] = 1.0
            continue
        best = -1
        for k in range(start[own], start[own + 1]):
            first = rank_of_survivor[neighbor[k]]
            if first < 0:
                continue
            # The most similar survivor; of equally similar ones, the most preferred.
            if (
                best < 0
                or similarity[k] > similarity[best]
                or (similarity[k] == similarity[best] and first < rank_of_survivor[neighbor[best]])
            ):
                best = k
        if best >= 0:
            survivor[document] = order[rank_of_survivor[neighbor[best]]]
            survivor_similarity[document] = similarity[best]
            survivor_band[document] = band[best]
        else:
            rank_of_survivor[own] = rank
