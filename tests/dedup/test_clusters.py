"""Components, groups and exact similarities against plain Python."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.dedup.clusters import components
from tasks.dedup.groups import group
from tasks.dedup.verify import BATCH, batches, jaccard

EDGES = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


def reachable(start: int, edges: list[tuple[int, int]]) -> set[int]:
    seen, todo = {start}, [start]
    while todo:
        node = todo.pop()
        for a, b in edges:
            for other in ([b] if a == node else []) + ([a] if b == node else []):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
    return seen


@given(EDGES)
def test_components_are_named_by_their_least_member(edges: list[tuple[int, int]]) -> None:
    found = components(20, np.array(edges, np.int64).reshape(-1, 2))
    assert found.tolist() == [min(reachable(node, edges)) for node in range(20)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_groups_share_a_digest(keys: list[tuple[int, int]]) -> None:
    digests = [bytes([k, s] * 8) for k, s in keys]
    shingles = np.array([s for _, s in keys], np.int64)
    raw = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)
    found = group(raw, shingles)
    for i, digest in enumerate(digests):
        number = int(found.of[i])
        assert found.name(number) == digest.hex()
        assert found.first[number] == digests.index(digest)
        assert found.sizes[number] == digests.count(digest)
        assert found.shingles[number] == shingles[i]
    order = [(int(found.shingles[g]), found.name(g)) for g in range(len(found.first))]
    assert order == sorted(order)


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_jaccard(a: set[int], b: set[int]) -> None:
    got = jaccard(np.array(sorted(a), np.uint64), np.array(sorted(b), np.uint64))
    assert got == (len(a & b) / len(a | b) if a | b else 0.0)


def test_batches_cover_every_pair_once() -> None:
    rng = random.Random(3)
    rows = [[rng.choice([0, 0, 2]), 0, rng.randrange(3), 0] for _ in range(2 * BATCH)]
    pairs = np.array(rows, np.int64)
    cut = batches(pairs)
    assert sorted(np.concatenate(cut).tolist()) == list(range(len(pairs)))
    for chosen in cut:
        assert len(chosen) <= BATCH
        assert len(set(pairs[chosen, 0].tolist())) == 1
        assert sorted(pairs[chosen, 2].tolist()) == pairs[chosen, 2].tolist()
    assert batches(np.zeros((0, 4), np.int64)) == []
