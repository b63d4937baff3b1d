"""Sources: which settings a recipe may have, and which crawl a run uses."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tasks.acquire.books.books import BooksSource
from tasks.acquire.config import AnySource
from tasks.acquire.warc import WarcSource
from tasks.acquire.web.config import WebSource

SOURCES: TypeAdapter[AnySource] = TypeAdapter(AnySource)
NOON = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)


def web(**more: object) -> WebSource:
    given = {"name": "site", "kind": "web", "start_urls": ["http://h/"], **more}
    return WebSource.model_validate(given)


def test_kind_decides_the_class() -> None:
    assert isinstance(
        SOURCES.validate_python({"name": "a", "kind": "warc", "paths": ["x"]}), WarcSource
    )
    assert isinstance(
        SOURCES.validate_python({"name": "a", "kind": "books", "paths": ["x"]}), BooksSource
    )
    with pytest.raises(ValidationError, match="kind"):
        SOURCES.validate_python({"name": "a", "kind": "gopher", "paths": ["x"]})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start_urls", []),
        ("start_urls", ["h/x"]),
        ("start_urls", ["ftp://h/"]),
        ("start_urls", ["http://user:secret@h/"]),
        ("start_urls", ["http://h/?key=${HOME}"]),
        ("allow", ["("]),
        ("delay", -1),
        ("max_pages", 0),
        ("recrawl", "yearly"),
        ("snapshot", "a/b"),
        ("user_agent", ""),
        ("user_agent", "/1.0"),
        ("user_agent", "bot\r\nX: y"),
        ("name", "a/b"),
        ("robots", False),
    ],
)
def test_mistakes_are_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        web(**{field: value})


@pytest.mark.parametrize(
    ("recrawl", "label", "same_for"),
    [
        ("never", "once", timedelta(days=10_000)),
        ("hourly", "2026-11-22T12", timedelta(minutes=29)),
        ("daily", "2026-11-22", timedelta(hours=11)),
        ("weekly", "2026-W47", timedelta(hours=11)),  # a Sunday
        ("monthly", "2026-11", timedelta(days=8)),
    ],
)
def test_labels(recrawl: str, label: str, same_for: timedelta) -> None:
    source = web(recrawl=recrawl)
    assert source.snapshot_label(NOON) == source.snapshot_label(NOON + same_for) == label
    assert web(recrawl=recrawl, snapshot="mine").snapshot_label(NOON) == "mine"


@given(
    st.datetimes(timezones=st.just(UTC)), st.sampled_from(["hourly", "daily", "weekly", "monthly"])
)
def test_a_label_is_a_function_of_the_time(now: datetime, recrawl: str) -> None:
    assert web(recrawl=recrawl).snapshot_label(now) == web(recrawl=recrawl).snapshot_label(now)


@pytest.mark.parametrize(
    "how",
    [{"delay": 9}, {"concurrency": 1}, {"timeout": 1}, {"retries": 0}, {"license": "x"}],
)
def test_request_settings_do_not_change_the_crawl_key(how: dict[str, object]) -> None:
    assert web(**how).crawl_key(NOON) == web().crawl_key(NOON)


@pytest.mark.parametrize(
    "what",
    [{"max_pages": 9}, {"deny": ["x"]}, {"recrawl": "daily"}, {"snapshot": "b"},
     {"user_agent": "other"}, {"max_page_bytes": 5}, {"max_depth": 2}, {"name": "other"}],
)  # fmt: skip
def test_settings_that_decide_the_pages_change_the_crawl_key(what: dict[str, object]) -> None:
    assert web(**what).crawl_key(NOON) != web().crawl_key(NOON)
