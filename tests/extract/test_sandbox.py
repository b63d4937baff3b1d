"""The extracting process: killed, crashed, starved, and the pages after it unharmed."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from tasks.extract import sandbox as module
from tasks.extract.config import ExtractConfig
from tasks.extract.page import Page, Request
from tasks.extract.sandbox import Extractor

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

GOOD = Request(b"<html><body><p>The mill grinds slowly.</p><p>And fine.</p></body></html>", "http://h/",
               "text/html")  # fmt: skip
# Unclosed paragraphs side by side: a second or two per hundred thousand.
SLOW = Request(b"<html><body>" + b"<p>a" * 600_000, "http://h/slow", "text/html")


@pytest.fixture
def extract() -> Iterator[Extractor]:
    made = Extractor(ExtractConfig.model_validate({"timeout": 1.0}))
    yield made
    made.close()


def test_a_page_that_takes_too_long_costs_itself(extract: Extractor) -> None:
    assert isinstance(extract(GOOD), Page)
    assert extract(SLOW) == ("timeout", "1 s of processor time")
    found = extract(GOOD)
    assert isinstance(found, Page)
    assert "grinds slowly" in found.text


def test_a_process_that_something_else_killed_is_replaced(extract: Extractor) -> None:
    extract(GOOD)
    assert extract._process is not None
    os.kill(extract._process.pid, signal.SIGKILL)
    assert isinstance(extract(GOOD), Page)


def test_a_page_that_kills_it_twice_is_a_crash(
    extract: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Extractor._ask

    def deadly(self: Extractor, request: Request) -> object:
        if request.url.endswith("deadly"):
            whole(self, GOOD)
            assert self._process is not None
            os.kill(self._process.pid, signal.SIGSEGV)
        return whole(self, request)

    monkeypatch.setattr(Extractor, "_ask", deadly)
    assert extract(Request(b"x", "http://h/deadly")) == ("crash", "the process ended with -11")
    assert isinstance(extract(GOOD), Page)


def test_a_page_that_waits_for_ever_is_ended(
    extract: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(GOOD)
    assert extract._process is not None
    os.kill(extract._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    assert extract(GOOD)[0] == "timeout"  # type: ignore[index]
    monkeypatch.undo()
    assert isinstance(extract(GOOD), Page)


def test_large_pages_go_through_the_pipe(extract: Extractor) -> None:
    found = extract(Request(b"x" * 4_000_000, "http://h/", "text/plain"))
    assert isinstance(found, Page)
    assert len(found.text) == 4_000_000


def test_a_process_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    broken = Extractor(ExtractConfig())
    with pytest.raises(RuntimeError, match="did not start"):
        broken(GOOD)


def test_memory_is_limited() -> None:
    small = Extractor(ExtractConfig.model_validate({"memory": 300_000_000}))
    try:
        reason = small(Request(b"x" * 400_000_000, "http://h/", "text/plain"))
        assert isinstance(reason, tuple)
        assert isinstance(small(GOOD), Page)
    finally:
        small.close()
