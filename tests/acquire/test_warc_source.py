"""WARC files as a source: what is whole goes through, what is broken is counted."""

import gzip
import io
import json
import uuid
from pathlib import Path

import pytest

from infra.dataset.dataset import Dataset
from infra.errors import UserError
from infra.formats import warc
from tasks.acquire import task as acquire
from tasks.acquire.input_files import InputFile
from tasks.acquire.warc import WarcSource
from tests.acquire.sites import context, html


def acquired(store: Path, *paths: Path, **more: object) -> Dataset:
    """Acquires WARC files into a store."""
    given = {"name": "crawl", "kind": "warc", "paths": [str(path) for path in paths], **more}
    source = WarcSource.model_validate(given)
    ctx = context(store)
    return acquire.build(ctx, acquire.spec(ctx, source=source), source=source)


def record(kind: str, url: str, block: bytes, mime: str) -> bytes:
    """A record as other tools write it: version 1.1, headers in another order, no digests."""
    lines = [
        "WARC/1.1",
        f"Content-Type: {mime}",
        f"WARC-Target-URI: <{url}>",  # wget's way
        "WARC-Date: 2026-01-01T00:00:00.123456Z",
        f"WARC-Record-ID: <urn:uuid:{uuid.uuid4()}>",
        f"Content-Length: {len(block)}",
        f"WARC-Type: {kind}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"


def page(url: str, body: bytes, *headers: str, status: str = "200 OK") -> list[bytes]:
    """One response with its request."""
    if not any(line.startswith("Content-Type") for line in headers):
        headers = ("Content-Type: text/html", *headers)
    block = "\r\n".join([f"HTTP/1.1 {status}", *headers]).encode() + b"\r\n\r\n" + body
    request = b"GET / HTTP/1.1\r\nHost: h.example\r\n\r\n"
    return [
        record("request", url, request, "application/http; msgtype=request"),
        record("response", url, block, "application/http; msgtype=response"),
    ]


def written(path: Path, *, gzipped: bool = True, pages: int = 3) -> Path:
    """An archive with chunked bodies, redirects and every kind of record."""
    records = [record("warcinfo", "urn:x", b"software: other\r\n", "application/warc-fields")]
    for number in range(pages):
        records += page(f"http://H.example/p/../{number}#x", html(f"Page {number}").body)
    body = gzip.compress(html("Packed").body)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    encodings = ("Transfer-Encoding: chunked", "Content-Encoding: gzip")
    records += page("http://h.example/packed", chunked, *encodings)
    records += page("http://h.example/moved", b"", "Location: /0", status="301 Moved")
    records += page("http://h.example/gone", b"no", status="404 Not Found")
    records += page("http://h.example/long", b"<p>" + b"x" * 60_000)
    wrong_headers = ("Content-Encoding: gzip", "Transfer-Encoding: chunked")
    records += page("http://h.example/lies", html("Lies").body, *wrong_headers)
    records += page("http://h.example/torn", body[:-20], "Content-Encoding: gzip")
    damaged = body[:20] + b"\xff" * 20 + body[40:]
    records += page("http://h.example/damaged", damaged, "Content-Encoding: gzip")
    records += page("http://h.example/pic", b"\x89PNG", "Content-Type: image/png")
    closed = html("No", head="<meta name=robots content=none>").body
    records += page("http://h.example/no", closed)
    records.append(record("metadata", "http://h.example/0", b"x: y", "application/warc-fields"))
    records.append(record("conversion", "http://h.example/wet", b"Plain text.", "text/plain"))
    path.write_bytes(b"".join(gzip.compress(item) if gzipped else item for item in records))
    return path


@pytest.mark.parametrize("gzipped", [True, False])
def test_an_archive_of_another_tool(tmp_path: Path, gzipped: bool) -> None:
    path = written(tmp_path / "a.warc", gzipped=gzipped)
    raw = acquired(tmp_path / "store", path, max_page_bytes=50_000)
    assert raw.counts.to_json() == {
        "in": 13,
        "kept": 7,
        "dropped": {"content_type": 1, "noindex": 1, "redirect": 1},
        "failed": {"bad_encoding": 1, "http_404": 1, "too_large": 1},
    }
    table = raw.table()
    assert table["url"].to_pylist() == [
        *(f"http://h.example/{name}" for name in ("0", "1", "2", "packed", "lies", "torn", "wet"))
    ]
    (part,) = raw.parts
    data = io.BytesIO(part.storage.read(part.file("warc.gz")))
    payloads = [warc.read_capture(data, row["offset"]).payload for row in table.to_pylist()]
    assert payloads[3] == html("Packed").body
    assert payloads[4] == html("Lies").body
    assert html("Packed").body.startswith(payloads[5])
    assert payloads[6] == b"Plain text."
    assert table["content_type"].to_pylist()[6] == "text/plain"
    evidence = {row["url"]: row["evidence"] for row in part.verdicts().to_pylist()}
    assert json.loads(evidence["http://h.example/torn"]) == {"truncated": "unspecified"}
    assert evidence["http://h.example/packed"] is None


def test_what_an_archive_says_about_a_truncated_record_is_recorded(tmp_path: Path) -> None:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + html("Long").body
    head = record("response", "http://h.example/", block, "application/http; msgtype=response")
    head = head.replace(b"\r\nContent-Length", b"\r\nWARC-Truncated: length\r\nContent-Length", 1)
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(head))
    (part,) = acquired(tmp_path / "store", path).parts
    (verdict,) = part.verdicts().to_pylist()
    assert json.loads(verdict["evidence"]) == {"truncated": "length"}
    data = io.BytesIO(part.storage.read(part.file("warc.gz")))
    (row,) = part.table().to_pylist()
    assert warc.read_capture(data, row["offset"]).truncated == "length"


def test_a_truncated_archive_gives_the_records_before(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.warc.gz")
    data = whole.read_bytes()
    cut = tmp_path / "cut.warc.gz"
    cut.write_bytes(data[: len(data) // 2])
    raw = acquired(tmp_path / "store", cut, whole)
    assert raw.counts.failed["truncated_warc"] == 1
    first, second = raw.parts
    assert 0 < first.num_rows < second.num_rows
    assert second.num_rows == 8
    (failure,) = [row for row in first.verdicts().to_pylist() if row["reason"] == "truncated_warc"]
    assert '"file": "cut.warc.gz"' in failure["evidence"]
    assert '"offset": ' in failure["evidence"]


@pytest.mark.parametrize("gzipped", [True, False])
def test_a_damaged_record_loses_itself_only(tmp_path: Path, gzipped: bool) -> None:
    path = written(tmp_path / "a.warc", gzipped=gzipped)
    data = path.read_bytes()
    with path.open("rb") as stream:
        offsets = {item.url: at for at, item in warc.iter_captures(stream)}
    at = offsets["http://H.example/p/../1#x"]
    end = min(offset for offset in offsets.values() if offset > at)
    torn = tmp_path / "torn.warc"
    torn.write_bytes(data[: at + 5] + data[at + 25 :])
    raw = acquired(tmp_path / "store", torn)
    whole = acquired(tmp_path / "whole", path)
    assert raw.counts.failed == {**whole.counts.failed, "damaged_warc": 1}
    assert raw.counts.kept == whole.counts.kept - 1
    assert raw.counts.n_in == whole.counts.n_in
    (failure,) = [
        json.loads(row["evidence"])
        for row in raw.parts[0].verdicts().to_pylist()
        if row["reason"] == "damaged_warc"
    ]
    assert failure["file"] == "torn.warc"
    assert failure["offset"] == at
    assert 0 < failure["bytes"] < end - at


@pytest.mark.parametrize("data", [b"", b"no archive" * 50, gzip.compress(b"text" * 50, mtime=0)])
def test_a_file_that_is_not_an_archive_is_one_failure(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.warc.gz"
    path.write_bytes(data)
    raw = acquired(tmp_path / "store", path)
    assert raw.counts.to_json() == {"in": 1, "kept": 0, "dropped": {}, "failed": {"bad_warc": 1}}


def test_a_path_that_matches_nothing_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        acquired(tmp_path / "store", tmp_path / "nowhere*.warc")


def test_folders_and_order_do_not_matter(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    first = written(tmp_path / "x" / "1.warc.gz")
    second = written(tmp_path / "x" / "2.warc.gz", pages=5)
    one = acquired(tmp_path / "one", second, first)
    moved = [path.rename(tmp_path / "y" / path.name) for path in (first, second)]
    two = acquired(tmp_path / "two", *moved)
    assert one.fingerprint == two.fingerprint
    assert one.table().equals(two.table())
    segments = set(one.table()["segment"].to_pylist())
    assert len(segments) == 2
    assert all(item.startswith("crawl-") and len(item) == 18 for item in segments)


def test_a_new_archive_reads_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = written(tmp_path / "b.warc.gz")
    acquired(tmp_path / "store", one)
    read: list[str] = []
    read_file = WarcSource.read_file

    def spying(source: WarcSource, file: InputFile) -> object:
        read.append(file.name)
        return read_file(source, file)

    monkeypatch.setattr(WarcSource, "read_file", spying)
    other = written(tmp_path / "a.warc.gz", pages=7)
    raw = acquired(tmp_path / "store", one, other)
    assert read == ["a.warc.gz"]
    assert [part.num_rows for part in raw.parts] == [12, 8]


def test_large_archives_are_cut_into_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.acquire.capture_parts.MAX_CAPTURES", 4)
    raw = acquired(tmp_path / "store", written(tmp_path / "a.warc.gz", pages=9))
    assert [(part.name, part.num_rows) for part in raw.parts] == [
        ("00000", 4), ("00000-001", 4), ("00000-002", 4), ("00000-003", 2),
    ]  # fmt: skip
    assert raw.counts.n_in == sum(part.verdicts().num_rows for part in raw.parts) == 19


@pytest.mark.parametrize(
    "url",
    [
        "metadata://gnu.org/software/wget/warc/wget_arguments.txt",
        "metadata://gnu.org/software/wget/warc/wget.log",
        "urn:X-wpull:log",
        "urn:text:http://h.example/0",
        "urn:pageinfo:http://h.example/0",
        "dns:h.example",
        "file:///etc/passwd",
        "http://h.example/robots.txt",
    ],
)
def test_what_a_crawler_writes_about_itself_is_no_page(tmp_path: Path, url: str) -> None:
    secret = record("resource", url, b'"--user=anna" "--password=secret"', "text/plain")
    good = b"".join(page("http://h.example/", html("Home").body))
    path = tmp_path / "wget.warc.gz"
    path.write_bytes(gzip.compress(good) + gzip.compress(secret))
    raw = acquired(tmp_path / "store", path)
    assert raw.counts.dropped == {"not_a_page": 1}
    assert raw.table()["url"].to_pylist() == ["http://h.example/"]


def test_responses_with_bare_line_feeds_are_pages(tmp_path: Path) -> None:
    block = (
        b"HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Encoding: gzip\n\n" + html("Old").body
    )
    path = tmp_path / "clueweb.warc.gz"
    path.write_bytes(
        gzip.compress(record("response", "http://h.example/", block, "application/http"))
    )
    raw = acquired(tmp_path / "store", path)
    assert raw.counts.kept == 1
    assert raw.table()["content_type"].to_pylist() == ["text/html"]


@pytest.mark.parametrize(
    "headers",
    [b"Content-Type: text/html, text/html", b"Content-Type: text/html:charset=utf-8", b"Content-Type: html",
     b"Content-Type: text/plain\r\nContent-Type: text/html"],
)  # fmt: skip
def test_a_content_type_that_browsers_understand_is_a_page(tmp_path: Path, headers: bytes) -> None:
    block = b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n<html><a href=/x>A page.</a></html>"
    path = tmp_path / "a.warc.gz"
    path.write_bytes(
        gzip.compress(record("response", "http://h.example/", block, "application/http"))
    )
    assert acquired(tmp_path / "store", path).counts.kept == 1


def test_pages_that_are_cut_by_a_limit_of_the_parser_say_so(tmp_path: Path) -> None:
    deep = b"<p>text" + b"<b>" * 5000 + b"<a href=/x>x</a>"
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(b"".join(page("http://h.example/", deep))))
    (verdict,) = acquired(tmp_path / "store", path).parts[0].verdicts().to_pylist()
    assert verdict["verdict"] == "kept"
    assert "links_cut" in json.loads(verdict["evidence"])
