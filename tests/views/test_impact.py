"""What a removal takes of the latest run, and what it leaves behind."""

import re
from pathlib import Path

import pytest

from infra.removals.match import InvalidRemovalError, parse_removal
from infra.store.storage import Storage
from tests.views.datasets import SITE, Road, pages, walk
from views.removal.impact import compute_impact


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    return walk(tmp_path_factory.mktemp("road"))


def test_a_document_with_copies_that_stay(road: Road) -> None:
    (found,) = compute_impact(road.storage, "quickstart", [parse_removal("url", f"{SITE}/page/10")])
    assert (found.documents, found.corpus_documents, found.remaining_duplicates) == (1, 1, 3)
    others = {page.url for page in pages() if page.cluster == pages()[10].cluster}
    assert set(found.remaining_duplicate_urls) <= others - {f"{SITE}/page/10"}
    assert "3 (near) copies stay, such as" in str(found)


def test_copies_that_go_as_well_do_not_count(road: Road) -> None:
    every = [page for page in pages() if page.cluster == pages()[10].cluster]
    wanted = [parse_removal("url", page.url) for page in every]
    found = compute_impact(road.storage, "quickstart", wanted[:2], wanted[2:3])
    assert [item.remaining_duplicates for item in found] == [1, 1]
    found = compute_impact(road.storage, "quickstart", wanted)
    assert [item.remaining_duplicates for item in found] == [0] * 4


def test_a_domain_reaches_what_no_rule_kept(road: Road) -> None:
    (found,) = compute_impact(
        road.storage, "quickstart", [parse_removal("domain", "docs.example.org")]
    )
    mine = [page for page in pages() if page.source == "site"]
    assert found.documents == len(mine)
    assert found.corpus_documents == sum(page.reason is None for page in mine) < len(mine)
    assert found.remaining_duplicates == 0 or all(
        url.startswith("book:") for url in found.remaining_duplicate_urls
    )


def test_what_matches_nothing_names_what_is_near(road: Road) -> None:
    wanted = [
        parse_removal("url", "http://docs.example.org/page/10"),
        parse_removal("id", "0" * 32),
    ]
    near, nothing = compute_impact(road.storage, "quickstart", wanted)
    assert str(near).endswith(f"matches nothing so far; did you mean {SITE}/page/10?")
    assert str(nothing) == f"id {'0' * 32}: matches nothing so far"


def test_a_licence_nobody_has_is_refused(road: Road) -> None:
    with pytest.raises(
        InvalidRemovalError, match=re.escape("no document has this licence; there are")
    ):
        compute_impact(road.storage, "quickstart", [parse_removal("license", "MTI")])


def test_without_a_run_nothing_is_said(tmp_path: Path) -> None:
    wanted = [parse_removal("license", "anything"), parse_removal("domain", "a.org")]
    assert compute_impact(Storage(str(tmp_path)), "quickstart", wanted) == []
