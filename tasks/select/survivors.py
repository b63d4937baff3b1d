"""The election: which member of each set of copies stays.

Documents are looked at in the recipe's order of preference, then by the smaller id, then the
earlier place. A document is dropped as an exact duplicate if its exact group has a member that
stays, as a near-duplicate if a verified pair joins its group to one that has; otherwise it stays.
So every drop names a document that stays and is itself similar enough, however long the chains in
its cluster are.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

EXACT, NEAR = "exact_duplicate", "near_duplicate"
NO_BAND = -1  # compared for another reason than that they share one
NO_SURVIVOR = -1


@dataclass(frozen=True)
class Survivors:
    """What became of n documents.

    Attributes:
        survivor: int64[n], the document that a dropped one names; `NO_SURVIVOR` for all others.
        exact: bool[n], whether the two are of one exact group.
        similarity: float64[n] of the dropped.
        band: int64[n], the first band that nominated the pair; `NO_BAND` for none.
    """

    survivor: I64
    exact: npt.NDArray[np.bool_]
    similarity: F64
    band: I64


def choose_survivors(order: I64, group: I64, pairs: I64, similarity: F64, band: I64) -> Survivors:
    """Who is dropped, and for whose sake.

    Args:
        order: int64[m], the documents that passed all other rules, the most preferred first.
        group: int64[n], the exact group of every document, from 0; one of its own if it has none.
        pairs: int64[k, 2], verified pairs of groups, each once, either way round.
        similarity: float64[k].
        band: int64[k].
    """
    groups = int(group.max(initial=-1)) + 1
    ends = np.concatenate([pairs[:, 0], pairs[:, 1]])
    others = np.concatenate([pairs[:, 1], pairs[:, 0]])
    by_group = np.argsort(ends, kind="stable")
    start = np.searchsorted(ends[by_group], np.arange(groups + 1))
    edge = by_group % max(len(pairs), 1)
    found = Survivors(
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
        found.survivor,
        found.exact,
        found.similarity,
        found.band,
    )
    return found


@jit
def _choose_survivors(
    order: I64,
    group: I64,
    start: I64,
    neighbor: I64,
    similarity: F64,
    band: I64,
    survivor: I64,
    exact: npt.NDArray[np.bool_],
    survivor_similarity: F64,
    survivor_band: I64,
) -> None:
    stays = np.full(len(start), -1)  # place in the order of the group's survivor
    for place in range(len(order)):
        document = order[place]
        own = group[document]
        if stays[own] >= 0:
            survivor[document] = order[stays[own]]
            exact[document] = True
            survivor_similarity[document] = 1.0
            continue
        best = -1
        for k in range(start[own], start[own + 1]):
            first = stays[neighbor[k]]
            if first < 0:
                continue
            # The most similar; of equals, the first elected.
            if (
                best < 0
                or similarity[k] > similarity[best]
                or (similarity[k] == similarity[best] and first < stays[neighbor[best]])
            ):
                best = k
        if best >= 0:
            survivor[document] = order[stays[neighbor[best]]]
            survivor_similarity[document] = similarity[best]
            survivor_band[document] = band[best]
        else:
            stays[own] = place
