"""The election: which member of each set of copies stays.

Documents are looked at in the recipe's order of preference, then by the smaller id, then the
earlier place. A document is dropped as an exact
duplicate if its exact group has a member that stays, as a near-duplicate if a verified pair joins
its group to one that has; otherwise it stays. So every drop names a document that stays and is
itself similar enough, however long the chains in its cluster are.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

EXACT, NEAR = "exact_duplicate", "near_duplicate"
NO_BAND = -1  # compared for another reason than that they share one


@dataclass(frozen=True)
class Candidate:
    """A document with copies that passed all other rules.

    Attributes:
        number: its place in the corpus, documents of all parts numbered through.
        rank: what the recipe prefers, smaller first.
        id: its id.
        group: what it shares with its exact copies.
    """

    number: int
    rank: tuple[float, ...]
    id: str
    group: Hashable


@dataclass(frozen=True)
class Loss:
    """A dropped copy: why, for the sake of which document, how similar, nominated by which band."""

    reason: str
    survivor: int
    similarity: float
    band: int = NO_BAND


def elect(
    candidates: Sequence[Candidate], pairs: Sequence[tuple[Hashable, Hashable, float, int]]
) -> dict[int, Loss]:
    """Who is dropped, by number; all other candidates stay.

    Args:
        candidates: in any order.
        pairs: verified pairs of groups with their similarity and band, each once, either way
            round.
    """
    neighbours: dict[Hashable, list[tuple[Hashable, float, int]]] = {}
    for a, b, similarity, band in pairs:
        neighbours.setdefault(a, []).append((b, similarity, band))
        neighbours.setdefault(b, []).append((a, similarity, band))
    order = sorted(candidates, key=lambda c: (c.rank, c.id, c.number))
    stays: dict[Hashable, tuple[int, int]] = {}  # group -> (rank, number) of its survivor
    lost: dict[int, Loss] = {}
    for rank, candidate in enumerate(order):
        if candidate.group in stays:
            lost[candidate.number] = Loss(EXACT, stays[candidate.group][1], 1.0)
            continue
        near = [
            (-similarity, *stays[other], band)
            for other, similarity, band in neighbours.get(candidate.group, ())
            if other in stays
        ]
        if near:
            minus, _, survivor, band = min(near)  # the most similar; of equals, the first elected
            lost[candidate.number] = Loss(NEAR, survivor, -minus, band)
        else:
            stays[candidate.group] = (rank, candidate.number)
    return lost
