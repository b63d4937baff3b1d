"""Survivor selection: every dropped document has a survivor, and chains are split."""

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.select.cluster_selection import CANDIDATE_SCHEMA, exact_groups, preference_order
from tasks.select.survivors import NO_SURVIVOR
from tasks.select.survivors import choose_survivors as choose_kernel


@dataclass(frozen=True)
class Candidate:
    """A document that passed all other rules."""

    number: int
    rank: tuple[float, ...]
    id: str
    group: Hashable


@dataclass(frozen=True)
class Loss:
    """A dropped duplicate."""

    reason: str
    survivor: int
    similarity: float
    band: int = -1


def choose(
    candidates: Sequence[Candidate], pairs: Sequence[tuple[Hashable, Hashable, float, int]]
) -> dict[int, Loss]:
    """Survivor selection as the stage runs it: columns in, dropped documents by number out."""
    documents = sorted(candidates, key=lambda c: c.number)
    table = pa.table(
        {
            "cluster": ["c"] * len(documents),
            "number": [c.number for c in documents],
            "part": [0] * len(documents),
            "source": [0] * len(documents),
            "exact_group": [str(c.group) for c in documents],
            "id": [c.id for c in documents],
            "url": pa.nulls(len(documents), pa.string()),
            "rank": [list(c.rank) for c in documents],
            "passed": [True] * len(documents),
        },
        schema=CANDIDATE_SCHEMA,
    )
    group = exact_groups(table)
    of = {str(c.group): int(g) for c, g in zip(documents, group, strict=True)}
    # A pair may refer to a group without an eligible document; the table holds it nevertheless.
    known = [p for p in pairs if str(p[0]) in of and str(p[1]) in of]
    result = choose_kernel(
        preference_order(table),
        group,
        np.array([(of[str(a)], of[str(b)]) for a, b, *_ in known], np.int64).reshape(-1, 2),
        np.array([p[2] for p in known], np.float64),
        np.array([p[3] for p in known], np.int64),
    )
    return {
        candidate.number: Loss(
            "exact_duplicate" if result.exact[row] else "near_duplicate",
            documents[int(result.survivor[row])].number,
            float(result.similarity[row]),
            int(result.band[row]),
        )
        for row, candidate in enumerate(documents)
        if result.survivor[row] != NO_SURVIVOR
    }


def candidate(
    number: int, source: int = 0, length: int = 1, group: str | int | None = None
) -> Candidate:
    return Candidate(
        number, (source, -length), f"{number:032x}", number if group is None else group
    )


def test_the_order_is_source_then_length_then_id_then_number() -> None:
    same = {"group": "g"}
    assert choose([candidate(0, 1, 99, **same), candidate(1, 0, 1, **same)], [])[0].survivor == 1
    assert choose([candidate(0, 0, 1, **same), candidate(1, 0, 2, **same)], [])[0].survivor == 1
    assert choose([candidate(1, 0, 2, **same), candidate(0, 0, 2, **same)], [])[1].survivor == 0
    twins = [Candidate(n, (0, -5), "same", "g") for n in (3, 2)]
    assert choose(twins, []) == {3: Loss("exact_duplicate", 2, 1.0)}


def test_a_chain_is_split_where_no_pair_was_verified() -> None:
    chain = [candidate(n, length=9 - n) for n in range(3)]
    drops = choose(chain, [(0, 1, 0.9, 0), (1, 2, 0.85, 0)])
    assert drops == {
        1: Loss("near_duplicate", 0, 0.9, 0)
    }  # 2 is similar only to 1, which is dropped


def test_the_most_similar_survivor_is_named() -> None:
    documents = [candidate(n, length=9 - n) for n in range(3)]
    assert choose(documents, [(0, 2, 0.8, 3), (1, 2, 0.9, 5)])[2] == Loss(
        "near_duplicate", 1, 0.9, 5
    )
    assert choose(documents, [(0, 2, 0.9, 3), (1, 2, 0.9, 5)])[2] == Loss(
        "near_duplicate", 0, 0.9, 3
    )


def test_pairs_of_documents_that_failed_a_rule_do_not_count() -> None:
    assert choose([candidate(5)], [(5, 6, 0.99, 0)]) == {}


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 5)), max_size=12),
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([0.8, 0.9, 1.0])),
        max_size=12,
    ),
    st.randoms(),
)
def test_survivors_cover_the_dropped_and_not_each_other(
    rows: list[tuple[int, int, int]], raw: list[tuple[int, int, float]], rng: random.Random
) -> None:
    documents = [candidate(n, s, length, f"g{g}") for n, (s, length, g) in enumerate(rows)]
    pairs = {(f"g{a}", f"g{b}"): s for a, b, s in raw if a < b}
    given_pairs = [(a, b, s, 1) for (a, b), s in pairs.items()]
    drops = choose(documents, given_pairs)
    group = {c.number: str(c.group) for c in documents}
    survivors = set(group) - set(drops)
    for number, drop in drops.items():
        one, other = sorted((group[number], group[drop.survivor]))
        assert drop.survivor in survivors
        if drop.reason == "exact_duplicate":
            assert (one, drop.similarity) == (other, 1.0)
        else:
            assert pairs[one, other] == drop.similarity
    keptgroups_of = [group[n] for n in survivors]
    assert len(keptgroups_of) == len(set(keptgroups_of))
    assert not any(a in keptgroups_of and b in keptgroups_of for a, b in pairs)
    rng.shuffle(documents)
    turned = [(b, a, s, n) if rng.random() < 0.5 else (a, b, s, n) for a, b, s, n in given_pairs]
    rng.shuffle(turned)
    assert choose(documents, turned) == drops
