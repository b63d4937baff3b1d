"""Reading documents: megabytes of JSON per second of one core, beside plainer readers.

    python benchmarks/bench_documents.py [--megabytes N] [FILE ...]

Rows: paragraphs of the given text files, or of the quickstart's books without any, with six further
columns, repeated up to ``--megabytes`` of JSON. Every contender reads the same rows on one core; CPU
seconds count, the better of two runs. "What a row needs" is an id (BLAKE2b of the text), UTF-8 and
an Arrow table; ``json.loads`` alone does none of it. pyarrow's reader gives up at the first bad row
of a file; ours gives a verdict for each.
"""

import argparse
import gzip
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
import zstandard

from examples.quickstart.build import fetch_quickstart
from tasks.acquire.documents import DocumentsSource
from tasks.acquire.source import read_unit

RUNS = 2


def make(texts: Sequence[str], megabytes: float, folder: Path) -> Path:
    """Write the rows in every format; the path of the plain one."""
    rows: list[dict[str, object]] = []
    size = 0
    while size < megabytes * 1e6:
        for text in texts:
            number = len(rows)
            row = {"id": f"<urn:uuid:{number}>", "url": f"https://example.org/{number}"}
            rows.append({**row, "text": text, "score": number / 7, "meta": {"a": 1, "b": [1, 2]}})
            size += len(text.encode()) + 130
    plain = folder / "rows.jsonl"
    data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    plain.write_bytes(data)
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(data, 6))
    (folder / "rows.jsonl.zst").write_bytes(zstandard.compress(data, 3))
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, folder / "rows.parquet", compression="zstd", row_group_size=10_000)
    return plain


def loads(path: Path) -> int:
    """The plain loop: parse, take the text."""
    with path.open("rb") as file:
        return len([json.loads(line)["text"] for line in file])


def loads_and_more(path: Path) -> int:
    """The plain loop with what a row needs."""
    ids, texts, urls = [], [], []
    with path.open("rb") as file:
        for line in file:
            row = json.loads(line)
            texts.append(row["text"])
            urls.append(row["url"])
            ids.append(hashlib.blake2b(row["text"].encode(), digest_size=16).hexdigest())
    return int(pa.table({"id": ids, "url": urls, "text": texts}).num_rows)


def arrow(path: Path) -> int:
    """The JSON reader of pyarrow on one thread, two columns."""
    schema = pa.schema([("text", pa.string()), ("url", pa.string())])
    table = pj.read_json(
        path,
        read_options=pj.ReadOptions(use_threads=False, block_size=8 << 20),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    return int(table.num_rows)


def ours(path: Path) -> int:
    """The stage's function over all units of a file."""
    source = DocumentsSource(name="b", kind="documents", paths=(str(path),), url_column="url")
    return sum(
        part.rows.num_rows for unit in source.list_units() for part in read_unit(*unit.payload)
    )


def seconds(read: Callable[[Path], int], path: Path, rows: int) -> float:
    """CPU seconds of the better run; every row must have been read."""
    best = float("inf")
    for _ in range(RUNS):
        start = time.process_time()
        if read(path) != rows:
            raise SystemExit(f"{read.__name__} lost rows of {path.name}")
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--megabytes", type=float, default=150)
    args = parser.parse_args()
    files = args.files or sorted((fetch_quickstart()[0] / "books").glob("*.txt"))
    texts = [
        part
        for file in files
        for part in file.read_text("utf-8", "replace").split("\n\n")
        if len(part) > 200
    ]
    with tempfile.TemporaryDirectory() as name:
        plain = make(texts, args.megabytes, Path(name))
        rows = loads(plain)
        megabytes = plain.stat().st_size / 1e6
        print(f"{rows} rows, {megabytes:.0f} MB of JSON, one core")
        baseline = seconds(loads, plain, rows)
        contenders: list[tuple[str, Callable[[Path], int], str]] = [
            ("json.loads loop, text only", loads, "jsonl"),
            ("json.loads loop, what a row needs", loads_and_more, "jsonl"),
            ("pyarrow.json, no ids", arrow, "jsonl"),
            ("gristmill", ours, "jsonl"),
            ("gristmill, gzip", ours, "jsonl.gz"),
            ("gristmill, zstd", ours, "jsonl.zst"),
            ("gristmill, Parquet (zstd)", ours, "parquet"),
        ]
        for label, read, suffix in contenders:
            took = seconds(read, plain.with_name(f"rows.{suffix}"), rows)
            print(f"{label:36} {megabytes / took:6.0f} MB/s  x{baseline / took:.2f}")


if __name__ == "__main__":
    main()
