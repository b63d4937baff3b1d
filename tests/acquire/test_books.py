import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.errors import UserError
from infra.schemas.documents import DOCUMENT_SCHEMA
from tasks.acquire.books.books import BooksSource, book_url
from tasks.acquire.source import read_unit
from tests.acquire.epubs import package, page, whale

PARAGRAPH = (
    "It was the best of times, it was the worst of times, it was the age of\n"
    "wisdom, it was the age of foolishness, it was the epoch of belief, it\n"
    "was the epoch of incredulity, it was the season of Light, it was the\n"
    "season of Darkness.\n"
)
GUTENBERG = (
    "\ufeffThe Project Gutenberg EBook of A Tale of Two Cities, by Charles Dickens\r\n\r\n"
    "Title: A Tale of Two Cities\r\n\r\nAuthor: Charles Dickens\r\n\r\n"
    "Release Date: January, 1994 [EBook #98]\r\n\r\nLanguage: English\r\n\r\n"
    "*** START OF THIS PROJECT GUTENBERG EBOOK A TALE OF TWO CITIES ***\r\n\r\n"
    "Produced by Judith Boss\r\n\r\n\r\nCHAPTER I\r\n\r\n{0}\r\n\r\nCHAPTER II\r\n\r\n{0}\r\n"
    "*** END OF THIS PROJECT GUTENBERG EBOOK A TALE OF TWO CITIES ***\r\n\r\nLicence.\r\n"
).format(PARAGRAPH.replace("\n", "\r\n"))


def source(*paths: Path, **settings: Any) -> BooksSource:
    return BooksSource(name="library", kind="books", paths=tuple(map(str, paths)), **settings)


def read(path: Path, data: bytes, **settings: Any) -> tuple[pa.Table, dict[str, Any]]:
    """The one document (or none) of a file, and its verdict with the evidence parsed."""
    path.write_bytes(data)
    section = source(path, **settings)
    (unit,) = section.list_units()
    (part,) = read_unit(*unit.payload)
    part.rows.validate(full=True)
    assert part.rows.schema == DOCUMENT_SCHEMA
    (verdict,) = part.verdicts.to_pylist()
    return part.rows, {**verdict, "evidence": json.loads(verdict["evidence"])}


def test_a_gutenberg_book(tmp_path: Path) -> None:
    kept, verdict = read(tmp_path / "98.txt", GUTENBERG.encode(), license="public-domain")
    (row,) = kept.to_pylist()
    joined = PARAGRAPH.replace("\n", " ").strip()
    assert row["text"] == f"CHAPTER I\n\n{joined}\n\nCHAPTER II\n\n{joined}"
    assert row["chapters"] == [
        {"title": "CHAPTER I", "start": 0},
        {"title": "CHAPTER II", "start": row["text"].index("CHAPTER II")},
    ]
    assert row["url"] == "book:A%20Tale%20of%20Two%20Cities"
    assert (row["title"], row["date"]) == ("A Tale of Two Cities", "1994-01")
    assert (row["language_hint"], row["license"]) == ("en", "public-domain")
    assert row["segment"].startswith("library-")
    assert row["id"] == verdict["id"]
    assert verdict["verdict"] == "kept"
    assert verdict["evidence"] == {
        "file": "98.txt",
        "format": "text",
        "encoding": "utf-8",
        "gutenberg": True,
        "creators": ["Charles Dickens"],
    }


def test_a_recipe_can_keep_hard_wrapped_lines(tmp_path: Path) -> None:
    kept, _ = read(tmp_path / "98.txt", GUTENBERG.encode(), unwrap_lines=False)
    assert PARAGRAPH.strip() in kept["text"][0].as_py()


def test_an_epub(tmp_path: Path) -> None:
    kept, verdict = read(tmp_path / "w.epub", whale())
    (row,) = kept.to_pylist()
    assert row["url"] == "book:The%20Whale"
    assert (row["date"], row["license"]) == ("1851-10-18", "Public domain")
    assert [chapter["title"] for chapter in row["chapters"]] == ["Loomings", "The Carpet-Bag"]
    assert verdict["evidence"]["format"] == "epub 2.0"


def test_gutenbergs_pages_inside_an_epub_are_removed(tmp_path: Path) -> None:
    first = page(
        "<p>The Project Gutenberg eBook of X, by Y</p><p>Licence talk.</p>"
        "<p>*** START OF THE PROJECT GUTENBERG EBOOK X ***</p><h2>Loomings</h2><p>Call me.</p>"
    )
    last = page(
        "<h2>The Carpet-Bag</h2><p>A shirt.</p>"
        "<p>*** END OF THE PROJECT GUTENBERG EBOOK X ***</p><p>Licence.</p>"
    )
    kept, verdict = read(tmp_path / "w.epub", whale(ch1_xhtml=first, ch2_xhtml=last))
    (row,) = kept.to_pylist()
    assert row["text"] == "Loomings\n\nCall me.\n\nThe Carpet-Bag\n\nA shirt."
    assert row["chapters"] == [{"title": "The Carpet-Bag", "start": 20}]
    assert verdict["evidence"]["gutenberg"] is True


def test_a_lost_chapter_is_in_the_evidence_of_the_kept_book(tmp_path: Path) -> None:
    kept, verdict = read(tmp_path / "w.epub", whale(ch1_xhtml=b""))
    assert kept.num_rows == 1
    assert verdict["evidence"]["chapters_lost"] == [{"file": "OEBPS/ch1.xhtml", "error": "empty"}]


@pytest.mark.parametrize(
    ("name", "data", "verdict", "reason"),
    [
        ("e.txt", b"", "failed", "empty_file"),
        ("e.epub", b"", "failed", "empty_file"),
        ("cut.epub", whale()[:-200], "failed", "bad_epub"),
        ("page.epub", b"<html><body>404</body></html>", "failed", "bad_epub"),
        ("latin.txt", b"caf\xc3\xa9 " * 20 + b"\xff", "failed", "bad_encoding"),
        ("x.txt", b"\x00\x01\x02\x03 not text", "failed", "bad_encoding"),
        ("b.txt", b"%PDF-1.7 ...", "failed", "unsupported_format"),
        ("b.txt", b"version https://git-lfs.github.com/spec/v1\n", "failed", "unsupported_format"),
        ("b.txt", b"  <!DOCTYPE HTML><html>", "failed", "unsupported_format"),
        ("big.txt", b"word " * 30_000, "failed", "too_large"),
        ("drm.epub", whale(**{"META-INF/license.lcpl": "{}"}), "failed", "drm"),
        ("blank.txt", b" \n\n\t\n", "dropped", "empty_text"),
        ("pics.epub", whale(ch1_xhtml=page("<img/>"), ch2_xhtml=page("")), "dropped", "empty_text"),
    ],
)
def test_broken_books_are_counted(
    tmp_path: Path, name: str, data: bytes, verdict: str, reason: str
) -> None:
    kept, verdict_row = read(tmp_path / name, data, max_book_bytes=100_000)
    assert kept.num_rows == 0
    assert (verdict_row["verdict"], verdict_row["reason"]) == (verdict, reason)
    assert verdict_row["evidence"]["file"] == name
    assert str(tmp_path) not in json.dumps(verdict_row)


def test_an_epub_by_content_whatever_its_name(tmp_path: Path) -> None:
    kept, _ = read(tmp_path / "book.bin", whale())
    assert kept["title"][0].as_py() == "The Whale"


def test_only_what_is_in_the_file_counts(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.epub").write_bytes(whale())
        (tmp_path / folder / "t.txt").write_text(GUTENBERG)
    here = source(tmp_path / "a" / "*").list_units()
    elsewhere = source(tmp_path / "b" / "*").list_units()
    assert [unit.key for unit in here] == [unit.key for unit in elsewhere]
    assert [read_unit(*u.payload).__next__() for u in here] == [
        read_unit(*u.payload).__next__() for u in elsewhere
    ]


def test_one_unit_per_book(tmp_path: Path) -> None:
    (tmp_path / "w.epub").write_bytes(whale())
    before = {unit.key for unit in source(tmp_path / "*").list_units()}
    (tmp_path / "a.txt").write_text(GUTENBERG)
    after = source(tmp_path / "*").list_units()
    assert len(after) == 2
    assert before < {unit.key for unit in after}
    assert all(unit.expected_rows == 1 for unit in after)


def test_settings_that_decide_the_bytes(tmp_path: Path) -> None:
    assert source(tmp_path, license="mit").output_config() == {
        "name": "library",
        "kind": "books",
        "snapshot": None,
        "license": "mit",
        "unwrap_lines": True,
        "max_book_bytes": 64 << 20,
    }


def test_a_file_that_changes_under_the_reader_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(GUTENBERG)
    (unit,) = source(tmp_path / "a.txt").list_units()
    (tmp_path / "a.txt").write_text(GUTENBERG.replace("best", "rest"))
    with pytest.raises(UserError, match=r"a\.txt was changed"):
        list(read_unit(*unit.payload))


def test_a_pattern_that_matches_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.txt"):
        source(tmp_path / "nothing.txt").list_units()


def test_an_error_in_our_code_fails_one_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("tasks.acquire.books.books.decode_text", fault)
    _, verdict = read(tmp_path / "a.txt", b"text")
    assert verdict["reason"] == "reader_error"
    assert verdict["evidence"]["error"] == "RuntimeError: unforeseen"


def test_book_urls() -> None:
    assert book_url("  A  B/C ", "x.txt") == "book:A%20B%2FC"
    assert book_url(None, "my book.txt") == "book:my%20book"
    assert book_url("Cafe\u0301", "x") == book_url("Caf\u00e9", "x")


def test_a_book_with_only_a_license_is_dropped(tmp_path: Path) -> None:
    opf = package(["ch1.xhtml"])
    boilerplate = page('<div class="pg-boilerplate"><p>Licence</p></div>')
    _, verdict = read(tmp_path / "l.epub", whale(content_opf=opf, ch1_xhtml=boilerplate))
    assert verdict["reason"] == "empty_text"
