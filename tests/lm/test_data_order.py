from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data.shuffle import (
    ShuffleOrder,
    TooFewTokensError,
    batch_for_step,
    count_rows,
    derive_round_keys,
    derive_round_keys_each,
    merge_ranges,
    permute,
    step_for_batch,
    unpermute,
)

ORDERS = st.builds(
    ShuffleOrder,
    st.integers(0, 2**40),
    st.integers(1, 2000),
    st.sampled_from(["", "books"]),
    st.integers(1, 60),
    st.integers(0, 9),
)
RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=5)


@given(ORDERS)
def test_every_epoch_takes_every_row_once(order: ShuffleOrder) -> None:
    taken = order.rows_at(np.arange(2 * order.rows))
    first, second = taken[: order.rows], taken[order.rows :]
    assert sorted(first) == sorted(second) == list(range(order.rows))


@given(ORDERS, st.integers(0, 5000))
def test_a_row_leads_back_to_its_numbers(order: ShuffleOrder, end: int) -> None:
    taken = order.rows_at(np.arange(end))
    rows = np.unique([0, order.rows // 2, order.rows - 1])
    expected = np.flatnonzero(np.isin(taken, rows)).tolist()
    assert order.inverse(rows, end).tolist() == expected


def test_the_order_depends_on_seed_epoch_and_stream_and_looks_random() -> None:
    count = np.arange(10_000)
    first = ShuffleOrder(1, 10_000).rows_at(count)
    second_epoch, other_seed = (
        ShuffleOrder(1, 10_000).rows_at(count + 10_000),
        ShuffleOrder(2, 10_000).rows_at(count),
    )
    pooled = ShuffleOrder(1, 10_000, "", 10, 100).rows_at(count)
    for other in (
        second_epoch,
        other_seed,
        ShuffleOrder(1, 10_000, "books").rows_at(count),
        count,
        pooled,
    ):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.05
        assert (first == other).mean() < 0.001


@pytest.mark.parametrize("rows", [10_000, 9_993])
def test_a_pool_reads_no_more_than_its_blocks(rows: int) -> None:
    order = ShuffleOrder(7, rows, "", block_rows=10, window_blocks=100)
    taken = order.rows_at(np.arange(rows))
    pools = [taken[at : at + 1000] for at in range(0, 10_000, 1000)]
    blocks = [set((pool // 10).tolist()) for pool in pools]
    shared = sum(len(block) for block in blocks) - len(set.union(*blocks))
    missing = 10_000 - rows  # the short block, wherever it is, shifts the boundaries after it
    assert all(len(block) <= 100 + missing for block in blocks)
    assert shared <= len(pools) * missing
    for pool in pools:  # rows of one block do not stay together
        assert (np.abs(np.diff(pool)) == 1).mean() < 0.05
        assert abs(np.corrcoef(pool, np.arange(len(pool)))[0, 1]) < 0.15


def test_the_order_is_for_ever() -> None:
    """A run made with an earlier version must still be traceable."""
    assert ShuffleOrder(1337, 1000).rows_at(np.arange(8)).tolist() == GOLDEN[0]
    assert ShuffleOrder(1337, 1000).rows_at(np.arange(1000, 1008)).tolist() == GOLDEN[1]
    assert ShuffleOrder(1337, 1000, "books", 10, 9).rows_at(np.arange(8)).tolist() == GOLDEN[2]


GOLDEN = (
    [138, 949, 597, 343, 781, 245, 902, 228],
    [467, 193, 915, 837, 168, 687, 749, 170],
    [602, 650, 906, 988, 761, 652, 281, 768],
)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50), st.integers(1, 3000))
def test_each_value_may_have_a_permutation_of_its_own(numbers: list[int], size: int) -> None:
    own = derive_round_keys_each(derive_round_keys(("test", 1)), np.array(numbers))
    values = np.array(numbers) % size
    assert unpermute(permute(values, own, size), own, size).tolist() == values.tolist()


@given(RANGES, st.integers(0, 200))
def test_steps_take_the_batches_that_are_not_skipped(
    skip: list[tuple[int, int]], steps: int
) -> None:
    left = [b for b in range(400) if not any(first <= b < end for first, end in skip)]
    assert [batch_for_step(step, skip) for step in range(steps)] == left[:steps]
    places = {batch: step for step, batch in enumerate(left)}
    assert [step_for_batch(batch, skip) for batch in range(200)] == [
        places.get(b) for b in range(200)
    ]
    ranges = merge_ranges(skip)
    assert all(one[1] < other[0] for one, other in pairwise(ranges))


def test_too_few_tokens_are_refused() -> None:
    assert count_rows(9, 8) == 1
    assert count_rows(17, 8) == 2
    with pytest.raises(TooFewTokensError, match="has 8 tokens; a context of 8 needs 9"):
        count_rows(8, 8)
