"""The stage over files: what a run commits, what a second run repeats, and where files are stored."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context
from infra.store.storage import Storage
from tasks.acquire import documents
from tasks.acquire import task as acquire
from tasks.acquire.books.books import BooksSource
from tasks.acquire.documents import DocumentsSource
from tests.acquire.epubs import whale
from tests.servers import S3

Section = BooksSource | DocumentsSource


def run(root: str, source: Section, workers: int = 0) -> Dataset:
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": workers}))
    ctx = Context(Storage(root), 1, cluster, NullReporter())
    return acquire.build(ctx, acquire.spec(ctx, source=source), source=source)


def snapshot(data: Dataset) -> dict[str, bytes]:
    return {name: data.storage.read(name) for name in data.storage.list_files()}


def rows(*texts: object) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


def books(folder: Path) -> BooksSource:
    patterns = (str(folder / "*.epub"), str(folder / "*.txt"))
    return BooksSource(name="library", kind="books", paths=patterns)


def dump(*paths: Path | str, **changed: Any) -> DocumentsSource:
    return DocumentsSource(name="dump", kind="documents", paths=tuple(map(str, paths)), **changed)


def shelf(folder: Path) -> Path:
    folder.mkdir()
    (folder / "whale.epub").write_bytes(whale())
    (folder / "cut.epub").write_bytes(whale()[:-200])
    (folder / "empty.txt").write_bytes(b"")
    (folder / "bad.txt").write_bytes("naïve ".encode() * 9 + b"\xff")
    (folder / "good.txt").write_text("CHAPTER I\n\nIt was a dark night.\n")
    return folder


def test_broken_books_are_counted_and_the_others_are_read(tmp_path: Path) -> None:
    data = run(str(tmp_path / "store"), books(shelf(tmp_path / "in")))
    assert data.counts.to_json() == {
        "in": 5,
        "kept": 2,
        "dropped": {},
        "failed": {"bad_encoding": 1, "bad_epub": 1, "empty_file": 1},
    }
    assert sorted(data.table(["url"])["url"].to_pylist()) == ["book:The%20Whale", "book:good"]


def test_adding_a_book_reads_that_book_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = str(tmp_path / "store"), shelf(tmp_path / "in")
    first = run(store, books(folder))
    read_files: list[str] = []
    read_file = BooksSource.read_file

    def watched(source: BooksSource, file: Any) -> Any:
        read_files.append(file.name)
        return read_file(source, file)

    monkeypatch.setattr(BooksSource, "read_file", watched)
    (folder / "another.txt").write_text("Some more words.\n")
    second = run(store, books(folder))
    assert read_files == ["another.txt"]
    assert second.counts.n_in == first.counts.n_in + 1
    assert second.fingerprint != first.fingerprint


def test_the_location_of_files_and_store_changes_no_byte(tmp_path: Path) -> None:
    one = run(str(tmp_path / "store"), books(shelf(tmp_path / "in")))
    two = run(str(tmp_path / "other"), books(shelf(tmp_path / "elsewhere")))
    assert one.fingerprint == two.fingerprint
    assert snapshot(one) == snapshot(two)


def test_workers_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "UNIT_BYTES", 2000)
    (tmp_path / "a.jsonl").write_bytes(rows(*(f"document number {n}" for n in range(400)), None, 7))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(rows("one", "two"))[:-9])
    source = dump(tmp_path / "*.jsonl*")
    alone = run(str(tmp_path / "store"), source)
    together = run(str(tmp_path / "other"), source, workers=2)
    assert snapshot(alone) == snapshot(together)
    assert alone.counts.failed == {"missing_text": 2, "truncated_file": 1}
    assert len(alone.parts) > 5


def test_files_on_s3_give_the_same_bytes(tmp_path: Path, s3: S3) -> None:
    (tmp_path / "a.jsonl").write_bytes(rows("one", "two"))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(rows("three")))
    remote = Storage(f"s3://{s3.bucket}/inputs")
    for name in ("a.jsonl", "b.jsonl.gz"):
        remote.write(name, (tmp_path / name).read_bytes())
    here = run(str(tmp_path / "store"), dump(tmp_path / "*.jsonl*"))
    elsewhere = run(str(tmp_path / "other"), dump(f"{remote.url}/*.jsonl*"))
    assert snapshot(here) == snapshot(elsewhere)
    assert elsewhere.table(["text"])["text"].to_pylist() == ["one", "two", "three"]
