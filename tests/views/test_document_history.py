"""A document's story: found by any spelling, told through every stage, honest about what is not."""

import pytest

from infra.dataset.dataset import Dataset
from infra.formats.megatron import TokenShards
from infra.runs.run_records import NoRun
from infra.store.storage import Storage
from tests.views.datasets import SITE, Road, pages, walk
from views.documents.lookup import UnknownDocument, canonical
from views.history.document_history import story


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    return walk(tmp_path_factory.mktemp("road"))


def test_a_kept_page_is_followed_to_its_tokens_and_models(road: Road) -> None:
    asked: list[tuple[int, int]] = []

    def steps(data: Dataset, first: int, end: int) -> list[int]:
        asked.append((first, end))
        return [3, 7]

    told = story(road.storage, f"{SITE}/page/10", steps)
    (track,) = told.tracks
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
    assert len(track.events[3].details["others"]) == 3
    assert track.events[-1].details["steps"] == [3, 7]
    assert track.outcome == "kept by tokenize, seen by narrow, tiny"
    assert len(asked) == 2
    text = told.text()
    assert "kept by tokenize" in text
    assert "first_token" in text


def test_token_ranges_are_those_of_the_whole_split(road: Road) -> None:
    shards = TokenShards(road.datasets["tokenize all"], "train")
    for document in (0, shards.documents // 2, shards.documents - 1):
        (track,) = story(road.storage, shards.ids[document]).tracks
        details = next(e for e in track.events if e.stage == "tokenize").details
        assert (details["first_token"], details["end_token"]) == shards.document_range(document)


def test_a_dropped_page_names_reason_evidence_and_survivor(road: Road) -> None:
    (track,) = story(road.storage, f"{SITE}/page/20").tracks
    last = track.events[-1]
    assert (last.stage, last.verdict, last.reason) == ("select", "dropped", "near_duplicate")
    assert last.evidence == {"survivor": pages()[10].id, "similarity": 0.93}
    assert track.outcome == "dropped by select: near_duplicate"


def test_a_page_that_failed_to_load_has_a_story(road: Road) -> None:
    (track,) = story(road.storage, f"{SITE}/gone/0").tracks
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
    (track,) = story(road.storage, query).tracks
    assert track.url == f"{SITE}/page/10"


def test_an_id_or_its_beginning_is_enough(road: Road) -> None:
    page = pages()[10]
    assert story(road.storage, page.id).tracks[0].id == page.id
    assert story(road.storage, page.id[:12]).tracks[0].id == page.id


def test_a_book_is_found_by_its_own_address(road: Road) -> None:
    (track,) = story(road.storage, "book:volume-9").tracks
    assert [event.stage for event in track.events][:2] == ["acquire", "annotate"]


def test_an_ambiguous_beginning_lists_the_ids(road: Road) -> None:
    with pytest.raises(UnknownDocument, match="beginning of 2 ids"):
        story(road.storage, "9" * 8)


def test_an_unknown_address_names_its_neighbours(road: Road) -> None:
    with pytest.raises(UnknownDocument, match=r"same host: .*/page/110,"):
        story(road.storage, f"{SITE}/page/11x")
    with pytest.raises(UnknownDocument, match="none of its host"):
        story(road.storage, "https://elsewhere.example/")
    with pytest.raises(UnknownDocument, match="no id begins alike"):
        story(road.storage, "0000000000")


def test_an_empty_store_says_so() -> None:
    with pytest.raises(NoRun, match="no run yet"):
        story(Storage("/nonexistent/store"), "x")


def test_canonical_keeps_what_matters() -> None:
    assert canonical("http://a.b/x?q=1") != canonical("http://a.b/x?q=2")
    assert canonical("http://a.b:8080/x") != canonical("http://a.b/x")
    assert canonical("http://a.b/X") != canonical("http://a.b/x")
