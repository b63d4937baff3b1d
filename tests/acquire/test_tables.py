"""Documents in Parquet and Arrow files: their columns, and damage."""

import json
import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.acquire.document_files import read, read_parts, reasons, row, source

TABLE_ROWS = [f"Row {number}" for number in range(8)]


def test_dates_of_a_parquet_file(tmp_path: Path) -> None:
    days = [date(2020, 1, 2), None]
    times = [datetime(2020, 1, 2, 3, tzinfo=UTC), None]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "day": days, "time": times}), path)
    assert read(path, date_column="day")[0]["date"].to_pylist() == ["2020-01-02", None]
    assert read(path, date_column="time")[0]["date"][0].as_py() == "2020-01-02T03:00:00+00:00"


def test_a_parquet_file_without_the_column_names_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    (verdict,) = read(tmp_path / "a.parquet")[1]
    assert verdict["evidence"]["error"] == "no column 'text'; it has body, n"
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "b.parquet")
    (verdict,) = read(tmp_path / "b.parquet")[1]
    assert verdict["evidence"]["error"] == "column 'text' is int64, not text"


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert reasons(read(tmp_path / "a.parquet")[1]) == ["empty_file"]


def test_a_damaged_row_group_costs_its_own_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"{n:06d} " + "lorem ipsum " * 9 for n in range(300)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=100, compression="zstd")
    meta = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = meta.dictionary_page_offset or meta.data_page_offset
    data[start : start + meta.total_compressed_size] = b"\xff" * meta.total_compressed_size
    path.write_bytes(data)
    kept, verdicts = read(path)
    assert kept["text"].to_pylist() == texts[:100] + texts[200:]
    assert reasons(verdicts)[100:200] == ["unreadable_rows"] * 100
    assert verdicts[150]["evidence"]["row"] == 150


def columns(path: Path, table: pa.Table, name: str) -> list[Any]:
    """A column of the documents of a Parquet file whose columns are named as in documents."""
    pq.write_table(table, path)
    named: dict[str, Any] = {"url_column": "url", "title_column": "title", "date_column": "date"}
    values: list[Any] = read(path, **named)[0][name].to_pylist()
    return values


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(),
     pa.binary_view(), pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.binary())],
)  # fmt: skip
def test_side_columns_of_any_text_type_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    urls = [f"http://h/{number}" for number in range(8)]
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    column = pa.array(urls, pa.string()).cast(pa.binary()).cast(value)
    column = column.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else column
    assert (
        columns(tmp_path / "a.parquet", pa.table({"text": TABLE_ROWS, "url": column}), "url")
        == urls
    )


def test_a_url_that_is_not_utf_8_is_null(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "url": pa.array([b"\xff", b"http://h/"])})
    assert columns(tmp_path / "a.parquet", table, "url") == [None, "http://h/"]


@pytest.mark.parametrize(
    ("kind", "values", "dates"),
    [
        (pa.timestamp("ns"), [1704067200000000001, None], ["2024-01-01T00:00:00", None]),
        (pa.timestamp("ns", "UTC"), [1704067200000001999], ["2024-01-01T00:00:00.000001+00:00"]),
        (pa.timestamp("us", "Europe/Berlin"), [1704067200000000], ["2024-01-01T00:00:00+00:00"]),
        (pa.timestamp("s", "+05:30"), [1704067200], ["2024-01-01T00:00:00+00:00"]),
        (pa.timestamp("ms"), [1704067200001], ["2024-01-01T00:00:00.001000"]),
        (pa.timestamp("s"), [10**15, 0], [None, "1970-01-01T00:00:00"]),
        (pa.date32(), [19723], ["2024-01-01"]),
        (pa.date64(), [1704067200000], ["2024-01-01"]),
        (pa.binary(), [b"2024-01-01", b"x"], ["2024-01-01", None]),
        (
            pa.string(),
            ["2024-01-01 00:00:00+00", "2024-01-01T00:00:00-0330"],  # as DuckDB writes it
            ["2024-01-01T00:00:00+00", "2024-01-01T00:00:00-0330"],
        ),
        (
            pa.string(),
            ["2024-01-01 10:00:00 UTC", "2024-01-01 10:00:00.5 +0100", "2024-01-01T10:00:00z"],
            ["2024-01-01T10:00:00Z", "2024-01-01T10:00:00.5+0100", "2024-01-01T10:00:00Z"],
        ),
        (
            pa.string(),
            [
                "Mon, 01 Jan 2024 10:00:00 GMT",
                "1 Jan 2024 10:00 -0330",
                "Mon, 41 Jan 2024 10:00:00 GMT",
            ],
            ["2024-01-01T10:00:00+00:00", "2024-01-01T10:00:00-03:30", None],
        ),
        (pa.string(), ["20240131", "20240131T12:00:00Z"], ["2024-01-31", "2024-01-31T12:00:00Z"]),
        (pa.int32(), [20240131, 20241331], ["2024-01-31", None]),
    ],
)
def test_dates_of_any_type_are_read(
    tmp_path: Path, kind: pa.DataType, values: list[Any], dates: list[str | None]
) -> None:
    table = pa.table({"text": TABLE_ROWS[: len(values)], "date": pa.array(values, kind)})
    assert columns(tmp_path / "a.parquet", table, "date") == dates


def test_dates_far_ahead_in_the_old_type_of_spark_do_not_wrap_around(tmp_path: Path) -> None:
    dates = [datetime(9999, 12, 31, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]
    path = tmp_path / "a.parquet"
    table = pa.table({"text": TABLE_ROWS[:2], "date": pa.array(dates, pa.timestamp("us"))})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    kept, _ = read(path, date_column="date")
    assert kept["date"].to_pylist() == ["9999-12-31T00:00:00", "2024-01-01T00:00:00"]


@pytest.mark.parametrize(
    ("name", "values", "kept", "ignored"),
    [
        ("url", [17, 18], ["17", "18"], None),
        ("title", [1984.0, None], ["1984", None], None),
        ("title", [1.5, math.nan], [None, None], "of type float"),
        ("title", [True, None], [None, None], "of type bool"),
        ("title", [["a", "b"], ["c"]], [None, None], "of type list"),
        ("url", [{"a": 1}, None], [None, None], "of type dict"),
        ("url", [b"\xff", b"http://h/"], [None, "http://h/"], "not UTF-8"),
        ("date", [1984, 2024], ["1984", "2024"], None),
        ("date", [1704067200, None], [None, None], "not an ISO 8601 date"),
        ("date", ["Jan 2", ""], [None, ""], "not an ISO 8601 date"),
        ("date", [["2024"], None], [None, None], "of type list"),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_column_that_is_left_empty_is_not_silent(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    form: str,
    name: str,
    values: list[Any],
    kept: list[str | None],
    ignored: str | None,
) -> None:
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"text": ["one", "two"], name: values}), path)
    elif b"\xff" in values:
        path.write_bytes(
            b'{"text": "one", "url": "\\ud800"}\n{"text": "two", "url": "http://h/"}\n'
        )
    else:
        lines = (
            {"text": text, name: value} for text, value in zip(["one", "two"], values, strict=True)
        )
        path.write_text("\n".join(map(json.dumps, lines)))
    columns: dict[str, Any] = {f"{name}_column": name}
    table, verdicts = read(path, **columns)
    assert table[name].to_pylist() == [value or None for value in kept]
    empty = [v["evidence"]["ignored"] for v in verdicts if v["evidence"] is not None]
    assert empty == ([{name: ignored}] * len(empty))
    assert bool(empty) == bool(ignored)
    assert [record.args for record in caplog.records] == (
        [("a." + form, name, len(empty), 2, ignored)] if ignored else []
    )


def test_a_column_that_no_row_has_is_not_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jsonl").write_bytes(row("one") + row("two", title="b"))
    pq.write_table(pa.table({"text": ["one"]}), tmp_path / "b.parquet")
    read_parts(source(tmp_path / "*", url_column="ulr", title_column="title"))
    assert [record.args for record in caplog.records] == [
        ("a.jsonl", "ulr", 2, 2, "missing in all rows"),
        ("b.parquet", "title", 1, 1, "missing in all rows"),
        ("b.parquet", "ulr", 1, 1, "missing in all rows"),
    ]


@pytest.mark.parametrize("twice", ["text", "url"])
def test_two_columns_of_one_name_fail_one_file(tmp_path: Path, twice: str) -> None:
    arrays = [pa.array(["a"]), pa.array(["http://h/"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(arrays, ["text", "url", twice]), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_bytes(row("good"))
    parts = read_parts(source(tmp_path / "*", url_column="url"))
    verdicts = [v for part in parts for v in part.verdicts.to_pylist()]
    assert reasons(verdicts) == ["unreadable_file", "kept"]
    assert twice in verdicts[0]["evidence"]


@pytest.mark.parametrize("form", ["file", "stream", "feather"])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_arrow_files_are_tables(tmp_path: Path, form: str, compression: str | None) -> None:
    table = pa.table({"text": TABLE_ROWS, "url": [f"http://h/{n}" for n in range(8)]})
    path = tmp_path / ("a.feather" if form == "feather" else "a.arrow")
    options = pa.ipc.IpcWriteOptions(compression=compression)
    make = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with path.open("wb") as out, make(out, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=3)
    kept, verdicts = read(path, url_column="url")
    assert kept["text"].to_pylist() == TABLE_ROWS
    assert kept["url"].to_pylist() == [f"http://h/{n}" for n in range(8)]
    assert reasons(verdicts) == ["kept"] * 8
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert reasons(read(path)[1])[-1] == "unreadable_file"
