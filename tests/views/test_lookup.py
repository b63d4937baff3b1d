"""Documents are looked up in bounded memory, and by any spelling of their URL."""

import weakref
from collections.abc import Iterator
from contextlib import suppress

import pyarrow as pa
import pytest

from infra.dataset.manifest import VERDICTS_SUFFIX
from tests.views.real_run import RealRun
from views.documents.lookup import DocumentNotFoundError, search
from views.documents.texts import find_rows, iter_tables, read_rows

HOST = "https://www.example.org"
URLS = [f"{HOST}/a/{number}?page={number}" for number in range(300)] + [
    f"{HOST}/caf%C3%A9/1",
    f"{HOST}/caf%C3%A9/2",
    f"{HOST}:443/b/",
    f"{HOST}/q/?x=1",
]


def test_rows_are_read_in_batches(real_run: RealRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("views.documents.texts.BATCH_ROWS", 7)
    part = real_run.dataset("extract").parts[0]
    ledger = part.verdicts()
    tables = list(iter_tables(part, VERDICTS_SUFFIX, ["id", "url"]))
    assert {table.num_rows for _, table in tables[:-1]} == {7}
    assert [start for start, _ in tables] == list(range(0, ledger.num_rows, 7))
    assert pa.concat_tables([table for _, table in tables]) == ledger.select(["id", "url"])
    rows = [1, 8, ledger.num_rows - 1]
    ids = ledger["id"].take(pa.array(rows)).to_pylist()
    assert find_rows(part, ids, VERDICTS_SUFFIX) == rows
    assert [row["id"] for row in read_rows(part, rows, ["id"], VERDICTS_SUFFIX)] == ids


def find(query: str) -> list[str]:
    tables = [
        (0, pa.table({"id": [f"{n:032x}" for n in range(len(URLS))], "url": URLS})),
        (1, pa.table({"id": ["f" * 32], "url": pa.array([None], pa.string())})),
    ]
    return [url for _, rows in search(lambda: tables, query) for url in rows["url"].to_pylist()]


@pytest.mark.parametrize(
    "query", ["0" * 31 + "7", "https://x.org/7", "x.org/7#top", "x.org/none", "feed"]
)
def test_a_search_holds_at_most_two_tables(query: str) -> None:
    """A store has more documents than memory has room for their ids and URLs.

    The second table is the last one of a stricter search, while a looser one begins.
    """
    alive: list[weakref.ref[pa.Table]] = []
    most = 0

    def tables() -> Iterator[tuple[int, pa.Table]]:
        nonlocal most
        for first in range(0, 5000, 100):
            numbers = range(first, first + 100)
            ids = [f"{number:032d}" for number in numbers]
            table = pa.table({"id": ids, "url": [f"https://x.org/{n}" for n in numbers]})
            alive.append(weakref.ref(table))
            yield first, table
            del table
            most = max(most, sum(reference() is not None for reference in alive))

    with suppress(DocumentNotFoundError):
        search(tables, query)
    assert len(alive) >= 50
    assert most <= 2


@pytest.mark.parametrize(
    ("query", "url"),
    [
        ("http://example.org/a/7/?page=7", URLS[7]),
        ("example.org/a/7?page=7#top", URLS[7]),
        ("HTTPS://EXAMPLE.ORG/a/7?page=7", URLS[7]),
        ("example.org/café/1", URLS[300]),
        ("example.org/b", URLS[302]),
        ("http://example.org:80/q?x=1", URLS[303]),
    ],
)
def test_a_url_is_found_in_another_spelling(query: str, url: str) -> None:
    assert find(query) == [url]


@pytest.mark.parametrize(
    "query", ["example.org/A/7?page=7", "example.org/a/7", "example.org:8080/b"]
)
def test_another_url_is_not_found_but_the_closest_are_named(query: str) -> None:
    with pytest.raises(DocumentNotFoundError, match=r"example\.org"):
        find(query)


def test_suggestions_share_the_longest_beginning() -> None:
    with pytest.raises(DocumentNotFoundError, match=r"/a/120\?.*/a/124\?"):
        find("example.org/a/12")
    with pytest.raises(DocumentNotFoundError, match="none of the same host"):
        find("example.net/a/12")
