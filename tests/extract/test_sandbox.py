"""The extracting process: killed, crashed, starved, and the pages after it unharmed."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.extract import sandbox as module
from tasks.extract.config import ExtractConfig
from tasks.extract.page import ExtractedPage, ExtractRequest
from tasks.extract.sandbox import SandboxedExtractor, WorkerDied
from tasks.extract.sandbox_worker import LENGTHS

pytestmark = pytest.mark.e2e

GOOD = ExtractRequest(b"<html><body><p>The mill grinds slowly.</p><p>And fine.</p></body></html>", "http://h/",
               "text/html")  # fmt: skip
# Unclosed paragraphs side by side: a second or two per hundred thousand.
SLOW = ExtractRequest(b"<html><body>" + b"<p>a" * 600_000, "http://h/slow", "text/html")


@pytest.fixture
def extract() -> Iterator[SandboxedExtractor]:
    made = SandboxedExtractor(ExtractConfig.model_validate({"max_cpu_seconds": 1.0}))
    yield made
    made.close()


def test_a_page_that_takes_too_long_fails_alone(extract: SandboxedExtractor) -> None:
    assert isinstance(extract(GOOD), ExtractedPage)
    assert extract(SLOW) == ("timeout", "1 s of processor time")
    result = extract(GOOD)
    assert isinstance(result, ExtractedPage)
    assert "grinds slowly" in result.text


def test_a_process_that_something_else_killed_is_replaced(extract: SandboxedExtractor) -> None:
    extract(GOOD)
    assert extract._process is not None
    os.kill(extract._process.pid, signal.SIGKILL)
    assert isinstance(extract(GOOD), ExtractedPage)


def test_a_page_that_kills_it_twice_is_a_crash(
    extract: SandboxedExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SandboxedExtractor._call_worker

    def deadly(self: SandboxedExtractor, request: ExtractRequest) -> object:
        if request.url.endswith("deadly"):
            whole(self, GOOD)
            assert self._process is not None
            os.kill(self._process.pid, signal.SIGSEGV)
        return whole(self, request)

    monkeypatch.setattr(SandboxedExtractor, "_call_worker", deadly)
    assert extract(ExtractRequest(b"x", "http://h/deadly")) == (
        "crash",
        "the process ended with -11",
    )
    assert isinstance(extract(GOOD), ExtractedPage)


def test_a_page_that_waits_forever_is_killed(
    extract: SandboxedExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(GOOD)
    assert extract._process is not None
    os.kill(extract._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(module, "WALL_CLOCK_FACTOR", 0.2)
    assert extract(GOOD)[0] == "timeout"  # type: ignore[index]
    monkeypatch.undo()
    assert isinstance(extract(GOOD), ExtractedPage)


def test_large_pages_go_through_the_pipe(extract: SandboxedExtractor) -> None:
    result = extract(ExtractRequest(b"x" * 4_000_000, "http://h/", "text/plain"))
    assert isinstance(result, ExtractedPage)
    assert len(result.text) == 4_000_000


def test_a_process_that_cannot_start_reports_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    broken = SandboxedExtractor(ExtractConfig())
    with pytest.raises(RuntimeError, match="did not start"):
        broken(GOOD)


def test_memory_is_limited() -> None:
    small = SandboxedExtractor(ExtractConfig.model_validate({"max_memory": 300_000_000}))
    try:
        reason = small(ExtractRequest(b"x" * 400_000_000, "http://h/", "text/plain"))
        assert isinstance(reason, tuple)
        assert isinstance(small(GOOD), ExtractedPage)
    finally:
        small.close()


@pytest.mark.parametrize("answer", [b"not JSON", b'{"text": 1}', b'["a", "b", "c"]', b"null"])
def test_an_answer_that_is_no_result_fails_one_page(
    extract: SandboxedExtractor, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    extract(GOOD)
    read_exactly = SandboxedExtractor._read_exactly

    def answer_wrongly(self: SandboxedExtractor, *arguments: Any) -> bytes:
        data = read_exactly(self, *arguments)
        return data if len(data) == LENGTHS.size else answer

    with monkeypatch.context() as patch:
        patch.setattr(SandboxedExtractor, "_read_exactly", answer_wrongly)
        with pytest.raises(WorkerDied):
            extract._call_worker(GOOD)
    extract.close()
    assert isinstance(extract(GOOD), ExtractedPage)
