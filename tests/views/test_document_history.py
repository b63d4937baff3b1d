"""A document's story: found by any spelling, told through every stage, honest about what is not."""

import pytest

from infra.dataset.dataset import Dataset
from infra.formats.megatron import TokenShards
from infra.runs.run_records import RunNotFoundError
from infra.store.storage import Storage
from tests.views.datasets import SITE, Road, pages, walk
from views.documents.lookup import DocumentNotFoundError, loose_url
from views.history.document_history import document_history


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    return walk(tmp_path_factory.mktemp("road"))


def test_a_kept_page_is_followed_to_its_tokens_and_models(road: Road) -> None:
    asked: list[tuple[int, int]] = []

    def steps(data: Dataset, first: int, end: int) -> list[int]:
        asked.append((first, end))
        return [3, 7]

    told = document_history(road.storage, f"{SITE}/page/10", steps)
    (track,) = told.runs
    stages = [event.stage for event in track.events]
    assert stages == [
        "acquire",
        "extract",
        "annotate",
        "dedup",
        "select",
        "tokenize",
        *["train"] * 2,
    ]
    page = pages()[10]
    assert track.id == page.id
    assert track.source == "site"
    assert track.title == "Page 10"
    assert track.excerpt == page.text[:600]
    assert track.events[2].details["language"] == "en"
    assert len(track.events[3].details["other_members"]) == 3
    assert track.events[-1].details["steps"] == [3, 7]
    assert track.outcome == "kept by tokenize, seen by narrow, tiny"
    assert len(asked) == 2
    text = told.to_text()
    assert "kept by tokenize" in text
    assert "first_token" in text


def test_token_ranges_are_those_of_the_whole_split(road: Road) -> None:
    shards = TokenShards(road.datasets["tokenize all"], "train")
    for document in (0, shards.num_documents // 2, shards.num_documents - 1):
        (track,) = document_history(road.storage, shards.ids[document]).runs
        details = next(e for e in track.events if e.stage == "tokenize").details
        assert (details["first_token"], details["end_token"]) == shards.document_range(document)


def test_a_dropped_page_names_reason_evidence_and_survivor(road: Road) -> None:
    (track,) = document_history(road.storage, f"{SITE}/page/20").runs
    last = track.events[-1]
    assert (last.stage, last.verdict, last.reason) == ("select", "dropped", "near_duplicate")
    assert last.evidence == {"survivor": pages()[10].id, "similarity": 0.93}
    assert track.outcome == "dropped by select: near_duplicate"


def test_a_page_that_failed_to_load_has_a_story(road: Road) -> None:
    (track,) = document_history(road.storage, f"{SITE}/gone/0").runs
    assert track.outcome == "failed by acquire: http_status"
    assert track.excerpt is None


@pytest.mark.parametrize(
    "query",
    [
        f"{SITE}/page/10/",
        "docs.example.org/page/10",
        "http://DOCS.example.org:80/page/10#top",
        "https://www.docs.example.org/page/1%30",
    ],
)
def test_spellings_of_an_address_are_one(road: Road, query: str) -> None:
    (track,) = document_history(road.storage, query).runs
    assert track.url == f"{SITE}/page/10"


def test_an_id_or_its_beginning_is_enough(road: Road) -> None:
    page = pages()[10]
    assert document_history(road.storage, page.id).runs[0].id == page.id
    assert document_history(road.storage, page.id[:12]).runs[0].id == page.id


def test_a_book_is_found_by_its_own_address(road: Road) -> None:
    (track,) = document_history(road.storage, "book:volume-9").runs
    assert [event.stage for event in track.events][:2] == ["acquire", "annotate"]


def test_an_ambiguous_beginning_lists_the_ids(road: Road) -> None:
    with pytest.raises(DocumentNotFoundError, match="beginning of 2 ids"):
        document_history(road.storage, "9" * 8)


def test_an_unknown_address_names_its_neighbours(road: Road) -> None:
    with pytest.raises(DocumentNotFoundError, match=r"same host: .*/page/110,"):
        document_history(road.storage, f"{SITE}/page/11x")
    with pytest.raises(DocumentNotFoundError, match="none of its host"):
        document_history(road.storage, "https://elsewhere.example/")
    with pytest.raises(DocumentNotFoundError, match="no id begins alike"):
        document_history(road.storage, "0000000000")


def test_an_empty_store_says_so() -> None:
    with pytest.raises(RunNotFoundError, match="no run yet"):
        document_history(Storage("/nonexistent/store"), "x")


def test_canonical_keeps_what_matters() -> None:
    assert loose_url("http://a.b/x?q=1") != loose_url("http://a.b/x?q=2")
    assert loose_url("http://a.b:8080/x") != loose_url("http://a.b/x")
    assert loose_url("http://a.b/X") != loose_url("http://a.b/x")
