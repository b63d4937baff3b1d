"""Rows sent through files: every row arrives once, at its partition, in order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.compute.shuffle import Shuffle
from infra.store.storage import Storage, StorageError

SENT = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=4)


@given(sent=SENT)
@settings(max_examples=40)
def test_every_row_arrives_in_order(
    sent: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    exchange = Shuffle(Storage(str(tmp_path_factory.mktemp("x"))), 5, 2)
    expected: dict[int, list[list[int]]] = {p: [] for p in range(5)}
    for sender, places in enumerate(sent):
        rows = np.array([[sender, k] for k in range(len(places))], np.uint64).reshape(-1, 2)
        exchange.write_rows(sender, np.array(places, np.int64), rows)
        for place, row in zip(places, rows.tolist(), strict=True):
            expected[place].append(row)
    for partition, rows_there in expected.items():
        found = exchange.read_partition(partition, range(len(sent)))
        assert found.reshape(-1, 2).tolist() == rows_there


def test_runs_of_any_length(tmp_path: Path) -> None:
    exchange = Shuffle(Storage(str(tmp_path)), 3, 1)
    runs = [np.arange(4, dtype=np.uint64), np.arange(2, dtype=np.uint64)]
    exchange.write_sorted(0, runs, np.array([0, 4, 4, 6]))
    assert [exchange.read_partition(p, [0]).reshape(-1).tolist() for p in range(3)] == [
        [0, 1, 2, 3],
        [],
        [0, 1],
    ]


def test_a_missing_or_shortened_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    exchange = Shuffle(Storage(str(tmp_path)), 1, 1)
    with pytest.raises(StorageError, match="000000"):
        exchange.read_partition(0, [0])
    exchange.write_rows(0, np.zeros(9, np.int64), np.ones((9, 1), np.uint64))
    file = tmp_path / "000000"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(StorageError, match="truncated"):
        exchange.read_partition(0, [0])


@given(places=st.lists(st.integers(0, 4), max_size=12))
@settings(max_examples=20)
def test_tables_arrive_row_by_row(
    places: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    exchange = Shuffle(Storage(str(tmp_path_factory.mktemp("x"))), 5, 1)
    names = [f"row {k}" * k for k in range(len(places))]
    table = pa.table({"name": pa.array(names, pa.string())})
    exchange.write_table(0, np.array(places, np.int64), table)
    exchange.write_table(1, np.array(places, np.int64), table)
    for partition in range(5):
        here = [name for name, place in zip(names, places, strict=True) if place == partition]
        found = exchange.read_table_partition(partition, [0, 1], table.schema)
        assert found["name"].to_pylist() == here * 2
