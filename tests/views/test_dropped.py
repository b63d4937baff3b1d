"""Samples of what was dropped: the right ones, with their text, the same at every call."""

from pathlib import Path

import pytest

from infra.runs.run_records import RunRecord
from tests.views.datasets import NASTY, Road, walk
from views.documents.dropped import ReasonNotFoundError, counts_by_reason, sample_dropped


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    return walk(tmp_path_factory.mktemp("road"), until="select")


@pytest.fixture(scope="module")
def record(road: Road) -> RunRecord:
    assert road.record is not None
    return road.record


def test_reasons_are_counted_by_stage(record: RunRecord) -> None:
    found = counts_by_reason(record)
    assert list(found) == ["acquire", "extract", "select"]
    assert found["acquire"] == {"http_status": 2, "robots": 2}
    assert next(iter(found["select"])) == "language"


def test_every_reason_gets_its_turn(road: Road, record: RunRecord) -> None:
    found = sample_dropped(road.storage, record, n=8)
    kinds = {(drop.stage, drop.reason) for drop in found}
    assert len(found) == len(kinds) == 8


def test_a_drop_comes_with_evidence_and_text(road: Road, record: RunRecord) -> None:
    (drop,) = sample_dropped(road.storage, record, "select", "c4_curly_brace")
    assert drop.verdict == "dropped"
    assert drop.url == "book:volume-6"
    assert drop.source == "library"
    assert drop.evidence == {"value": True, "threshold": False}
    assert drop.excerpt is not None
    assert drop.excerpt.startswith(NASTY)
    assert len(drop.excerpt) <= 600
    text = drop.to_text()
    assert "c4_curly_brace" in text
    assert "threshold False" in text
    assert drop.to_json()["evidence"]["value"] is True


def test_a_page_without_text_is_shown_as_it_was_fetched(road: Road, record: RunRecord) -> None:
    found = sample_dropped(road.storage, record, "extract")
    assert {drop.excerpt for drop in found} == {"<html><body><p></p></body></html>"}
    assert all(drop.raw for drop in found)


def test_a_failure_is_told_from_a_drop(road: Road, record: RunRecord) -> None:
    found = sample_dropped(road.storage, record, reason="http_status")
    assert [drop.verdict for drop in found] == ["failed", "failed"]
    assert found[0].evidence == {"status": 404}


def test_samples_are_the_same_and_come_from_several_parts(road: Road, record: RunRecord) -> None:
    first = sample_dropped(road.storage, record, "select", "language", 6)
    assert first == sample_dropped(road.storage, record, "select", "language", 6)
    assert len({drop.part for drop in first}) >= 3
    assert len({drop.id for drop in first}) == 6


def test_unknown_names_list_those_that_exist(road: Road, record: RunRecord) -> None:
    with pytest.raises(ReasonNotFoundError, match="acquire, extract, annotate, dedup, select"):
        sample_dropped(road.storage, record, "selct")
    with pytest.raises(ReasonNotFoundError, match="near_duplicate"):
        sample_dropped(road.storage, record, "select", "nonsense")


def test_a_stage_that_dropped_nothing_gives_nothing(road: Road, record: RunRecord) -> None:
    assert sample_dropped(road.storage, record, "dedup") == []


def test_text_cannot_give_orders_to_a_terminal(tmp_path: Path) -> None:
    from views.documents.texts import sanitize_line

    assert sanitize_line("a\x1b[31m red\x07\n\tb\u202e") == "a [31m red b"
