"""Rows shuffled through files: each is read once, in its partition, in order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.compute.shuffle import Shuffle
from infra.store.storage import Storage, StorageError

SENT = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=4)


@given(targets_by_mapper=SENT)
@settings(max_examples=40)
def test_every_row_arrives_in_order(
    targets_by_mapper: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shuffle = Shuffle(Storage(str(tmp_path_factory.mktemp("x"))), 5, 2)
    expected: dict[int, list[list[int]]] = {p: [] for p in range(5)}
    for mapper, targets in enumerate(targets_by_mapper):
        rows = np.array([[mapper, k] for k in range(len(targets))], np.uint64).reshape(-1, 2)
        shuffle.write_rows(mapper, np.array(targets, np.int64), rows)
        for target, row in zip(targets, rows.tolist(), strict=True):
            expected[target].append(row)
    for partition, expected_rows in expected.items():
        received = shuffle.read_partition(partition, range(len(targets_by_mapper)))
        assert received.reshape(-1, 2).tolist() == expected_rows


def test_runs_of_any_length(tmp_path: Path) -> None:
    shuffle = Shuffle(Storage(str(tmp_path)), 3, 1)
    runs = [np.arange(4, dtype=np.uint64), np.arange(2, dtype=np.uint64)]
    shuffle.write_sorted(0, runs, np.array([0, 4, 4, 6]))
    assert [shuffle.read_partition(p, [0]).reshape(-1).tolist() for p in range(3)] == [
        [0, 1, 2, 3],
        [],
        [0, 1],
    ]


def test_a_missing_or_shortened_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    shuffle = Shuffle(Storage(str(tmp_path)), 1, 1)
    with pytest.raises(StorageError, match="000000"):
        shuffle.read_partition(0, [0])
    shuffle.write_rows(0, np.zeros(9, np.int64), np.ones((9, 1), np.uint64))
    file = tmp_path / "000000"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(StorageError, match="truncated"):
        shuffle.read_partition(0, [0])


@given(targets=st.lists(st.integers(0, 4), max_size=12))
@settings(max_examples=20)
def test_tables_arrive_row_by_row(
    targets: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shuffle = Shuffle(Storage(str(tmp_path_factory.mktemp("x"))), 5, 1)
    names = [f"row {k}" * k for k in range(len(targets))]
    table = pa.table({"name": pa.array(names, pa.string())})
    shuffle.write_table(0, np.array(targets, np.int64), table)
    shuffle.write_table(1, np.array(targets, np.int64), table)
    for partition in range(5):
        expected_names = [
            name for name, target in zip(names, targets, strict=True) if target == partition
        ]
        received = shuffle.read_table_partition(partition, [0, 1], table.schema)
        assert received["name"].to_pylist() == expected_names * 2
