"""Samples of dropped and failed documents: complete, with their text, the same at every call."""

import pytest

from flows.steps import STEPS
from tests.views.real_run import NASTY, SITE, RealRun, pages
from views.documents.dropped import (
    DroppedDocument,
    ReasonNotFoundError,
    counts_by_reason,
    sample_dropped,
)
from views.documents.texts import sanitize_line


def sample(
    run: RealRun, stage: str | None = None, reason: str | None = None, n: int = 10
) -> list[DroppedDocument]:
    return sample_dropped(run.storage, run.record, STEPS, stage, reason, n)


def test_reasons_are_counted_by_stage(real_run: RealRun) -> None:
    counts = counts_by_reason(real_run.record)
    assert list(counts) == ["acquire", "extract", "select"]
    assert counts["acquire"] == {"bad_json": 2, "http_404": 2}
    planted: dict[str, int] = {}
    for page in pages():
        if page.reason:
            planted[page.reason] = planted.get(page.reason, 0) + 1
    assert counts["select"] == planted
    assert next(iter(counts["select"])) == "language", "the most frequent comes first"


def test_every_reason_gets_its_turn(real_run: RealRun) -> None:
    documents = sample(real_run, n=8)
    kinds = {(document.stage, document.reason) for document in documents}
    assert len(documents) == len(kinds) == 8


def test_a_dropped_document_comes_with_evidence_and_text(real_run: RealRun) -> None:
    (document,) = sample(real_run, "select", "c4_curly_brace")
    assert document.verdict == "dropped"
    assert (document.url, document.source) == (pages()[6].url, "library")
    assert document.evidence["threshold"] == 0
    assert document.excerpt is not None
    assert document.excerpt.startswith(NASTY)
    assert len(document.excerpt) <= 600
    text = document.to_text()
    assert "c4_curly_brace" in text
    assert "threshold" in text
    assert document.to_json()["evidence"] == dict(document.evidence)


def test_a_page_without_text_is_shown_as_it_was_fetched(real_run: RealRun) -> None:
    documents = sample(real_run, "extract")
    assert len(documents) == 2
    assert all(document.raw for document in documents)
    assert all("<article>" in str(document.excerpt) for document in documents)


def test_a_failed_document_is_told_from_a_dropped_one(real_run: RealRun) -> None:
    documents = sample(real_run, reason="http_404")
    assert [document.verdict for document in documents] == ["failed", "failed"]
    assert {str(document.url) for document in documents} == {f"{SITE}/missing/{n}" for n in (0, 1)}


def test_samples_are_the_same_and_come_from_several_parts(real_run: RealRun) -> None:
    first = sample(real_run, "select", "language", 6)
    assert first == sample(real_run, "select", "language", 6)
    assert len({document.part for document in first}) >= 3
    assert len({document.id for document in first}) == 6


def test_unknown_names_list_the_existing_ones(real_run: RealRun) -> None:
    with pytest.raises(ReasonNotFoundError, match="acquire, extract, annotate, dedup, select"):
        sample(real_run, "selct")
    with pytest.raises(ReasonNotFoundError, match="near_duplicate"):
        sample(real_run, "select", "nonsense")


def test_a_stage_that_dropped_nothing_gives_no_samples(real_run: RealRun) -> None:
    assert sample(real_run, "dedup") == []


def test_text_cannot_control_a_terminal() -> None:
    assert sanitize_line("a\x1b[31m red\x07\n\tb\u202e") == "a [31m red b"
