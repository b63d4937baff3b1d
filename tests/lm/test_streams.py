"""The order of rows of a model that carries its state."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lm.data.streams import StreamOrder

ORDERS = st.builds(StreamOrder, st.integers(0, 2**40), st.integers(1, 300), st.integers(1, 20))


@given(ORDERS)
def test_each_place_of_the_batch_reads_row_after_row(order: StreamOrder) -> None:
    taken = order.rows_at(np.arange(2 * order.rows * order.batch_size))
    streams = taken.reshape(-1, order.batch_size)
    assert (streams[1:] == (streams[:-1] + 1) % order.rows).all()
    # After as many batches as a stream is long, every row was read.
    length = -(-order.rows // order.batch_size)
    assert set(streams[:length].ravel().tolist()) == set(range(order.rows))


@given(ORDERS, st.integers(0, 5000))
def test_a_row_leads_back_to_its_numbers(order: StreamOrder, end: int) -> None:
    taken = order.rows_at(np.arange(end))
    rows = np.unique([0, order.rows // 2, order.rows - 1])
    expected = np.flatnonzero(np.isin(taken, rows)).tolist()
    assert order.inverse(rows, end).tolist() == expected


def test_the_seed_decides_where_the_streams_start() -> None:
    numbers = np.arange(400)
    orders = [StreamOrder(seed, 1000, 4).rows_at(numbers).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
