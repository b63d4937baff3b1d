"""Components in one task and in rounds, and exact similarities, against plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.store.storage import Storage
from tasks.dedup.candidates import components as module
from tasks.dedup.candidates.components import (
    connect_all,
    connected_components,
    convergence_state,
    init_stars,
    pairs_to_stars,
    run_star_step,
    star_step,
)
from tasks.dedup.config import DedupConfig
from tasks.dedup.shuffle_plan import DedupPlan
from tasks.dedup.verification.verify import concat, jaccard

EDGES = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


def reachable(start: int, edges: list[tuple[int, int]]) -> set[int]:
    visited, todo = {start}, [start]
    while todo:
        node = todo.pop()
        for a, b in edges:
            for other in ([b] if a == node else []) + ([a] if b == node else []):
                if other not in visited:
                    visited.add(other)
                    todo.append(other)
    return visited


@given(EDGES)
def test_components_are_named_by_their_least_member(edges: list[tuple[int, int]]) -> None:
    result = connected_components(20, np.array(edges, np.int64).reshape(-1, 2))
    smallest = [min(reachable(node, edges)) for node in range(20)]
    assert result.tolist() == smallest
    stars = pairs_to_stars(np.array(edges, np.uint64).reshape(-1, 2))
    assert stars.tolist() == [[node, root] for node, root in enumerate(smallest) if node != root]


@pytest.mark.parametrize("ranges", [1, 4])
@given(edges=EDGES)
@settings(max_examples=30)
def test_rounds_over_partitions_give_the_same(
    edges: list[tuple[int, int]], ranges: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work = Storage(str(tmp_path_factory.mktemp("work")))
    config = DedupConfig.model_validate({"exhaustive_cluster_size": 4, "neighbors": 1})
    plan = DedupPlan(work, (0,), 20, config, 0, 0, ranges)
    pairs = sorted({(min(e), max(e)) for e in edges if e[0] != e[1]})
    rows = np.array([(a, b, 0, 0) for a, b in pairs], np.uint64).reshape(-1, 4)
    for partition in range(ranges):
        plan.save(f"candidates/{partition}", rows[plan.pair_range_of(rows[:, 0]) == partition])
        init_stars(plan, partition)
    before, within = None, 0
    for number in range(0, 2 * module.MAX_ROUNDS, 2):
        within = sum(run_star_step(plan, number, p)["intra_cluster"] for p in range(ranges))
        state = [convergence_state(plan, number + 1, p) for p in range(ranges)]
        if state == before:
            break
        before = state
        for p in range(ranges):
            run_star_step(plan, number + 1, p)
    stars = np.concatenate([plan.load(f"stars/{p}", 2) for p in range(ranges)])
    assert stars.tolist() == pairs_to_stars(rows[:, :2]).tolist()
    sizes = np.unique(stars[:, 1], return_counts=True)[1] + 1
    # All pairs of up to four; of more, each with eight in two orders and with one neighbor.
    assert within == sum(n * (n - 1) // 2 if n <= 4 else n * 17 for n in sizes.tolist())
    assert connect_all(plan) == {"intra_cluster": within}


def test_a_star_keeps_what_is_connected() -> None:
    edges = np.array([[5, 1], [5, 3], [5, 9]], np.uint64)
    assert star_step(edges, large=True).tolist() == [[9, 1]]
    assert sorted(star_step(edges[:2], large=False).tolist()) == [[3, 1], [5, 1]]


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_jaccard(a: set[int], b: set[int]) -> None:
    got = jaccard(np.array(sorted(a), np.uint64), np.array(sorted(b), np.uint64))
    assert got == (len(a & b) / len(a | b) if a | b else 0.0)


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 60))
def test_slices_are_one_array_in_memory_or_in_a_file(lengths: list[int], room: int) -> None:
    pieces = [np.arange(n, dtype=np.uint64) for n in lengths]
    result = concat(iter(pieces), room)
    assert result.tolist() == [value for n in lengths for value in range(n)]
