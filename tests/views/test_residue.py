"""Which data sets still hold what was removed."""

import shutil
from pathlib import Path

import pytest

from infra.removals.match import parse_removal
from tests.views.datasets import SITE, Road, pages, walk
from views.removal.residue import find_residual


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return walk(tmp_path)


def by_stage(road: Road, *wanted: tuple[str, str]) -> dict[str, int | None]:
    gone = [parse_removal(kind, value) for kind, value in wanted]
    found = find_residual(road.storage, "quickstart", gone)
    assert all(item.in_latest_run and item.bytes > 0 for item in found)
    return {item.path.rsplit("-", 1)[0]: item.documents for item in found}


def test_every_data_set_that_holds_a_kept_document(road: Road) -> None:
    assert by_stage(road, ("url", f"{SITE}/page/10")) == {
        "acquire/site": 1,
        "extract/site": 1,
        "select/all": 1,
        "tokenize/all": 1,
    }


def test_a_dropped_document_lies_in_the_sources_only(road: Road) -> None:
    assert by_stage(road, ("id", pages()[20].id)) == {"acquire/site": 1, "extract/site": 1}


def test_nothing_is_held_of_what_nothing_matches(road: Road) -> None:
    assert by_stage(road, ("domain", "elsewhere.org")) == {}
    assert by_stage(road) == {}


def test_shards_of_a_corpus_that_is_gone(road: Road) -> None:
    corpus = road.datasets["select all"].storage.local_path()
    assert corpus is not None
    shutil.rmtree(corpus)
    assert by_stage(road, ("url", f"{SITE}/page/10"))["tokenize/all"] == 1
    assert by_stage(road, ("license", "MIT"))["tokenize/all"] is None
