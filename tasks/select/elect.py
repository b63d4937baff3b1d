"""The election: which member of each set of copies stays.

Documents are looked at in a fixed order: sources as the recipe lists them, then longer texts before
shorter ones, then the smaller id, then the earlier place. A document is dropped as an exact
duplicate if its exact group has a member that stays, as a near-duplicate if a verified pair joins
its group to one that has; otherwise it stays. So every drop names a document that stays and is
itself similar enough, however long the chains in its cluster are.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

EXACT, NEAR = "exact_duplicate", "near_duplicate"


@dataclass(frozen=True)
class Candidate:
    """A document with copies that passed all other rules.

    Attributes:
        number: its place in the corpus, documents of all parts numbered through.
        source: its source's place in the recipe.
        characters: length of its text.
        id: its id.
        group: what it shares with its exact copies.
    """

    number: int
    source: int
    characters: int
    id: str
    group: Hashable


@dataclass(frozen=True)
class Loss:
    """A dropped copy: why, for the sake of which document, and how similar the two are."""

    reason: str
    survivor: int
    similarity: float


def elect(
    candidates: Sequence[Candidate], pairs: Sequence[tuple[Hashable, Hashable, float]]
) -> dict[int, Loss]:
    """Who is dropped, by number; all other candidates stay.

    Args:
        candidates: in any order.
        pairs: verified pairs of groups with their similarity, each once, either way round.
    """
    neighbours: dict[Hashable, list[tuple[Hashable, float]]] = {}
    for a, b, similarity in pairs:
        neighbours.setdefault(a, []).append((b, similarity))
        neighbours.setdefault(b, []).append((a, similarity))
    order = sorted(candidates, key=lambda c: (c.source, -c.characters, c.id, c.number))
    stays: dict[Hashable, tuple[int, int]] = {}  # group -> (rank, number) of its survivor
    lost: dict[int, Loss] = {}
    for rank, candidate in enumerate(order):
        if candidate.group in stays:
            lost[candidate.number] = Loss(EXACT, stays[candidate.group][1], 1.0)
            continue
        near = [
            (-similarity, *stays[other])
            for other, similarity in neighbours.get(candidate.group, ())
            if other in stays
        ]
        if near:
            minus, _, survivor = min(near)  # the most similar; of equals, the first elected
            lost[candidate.number] = Loss(NEAR, survivor, -minus)
        else:
            stays[candidate.group] = (rank, candidate.number)
    return lost
