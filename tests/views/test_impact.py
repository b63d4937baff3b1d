"""The impact of a removal on the latest run."""

from pathlib import Path

import pytest

from flows.steps import STEPS
from infra.removals.match import InvalidRemovalError, Removal, parse_removal
from infra.store.storage import Storage
from tests.views.real_run import KEPT, NEAR, RECIPE, SITE, RealRun, pages
from views.removal.impact import RemovalImpact, compute_impact


def impact(
    run: RealRun, requested: list[Removal], active: list[Removal] | None = None
) -> list[RemovalImpact]:
    return compute_impact(run.storage, RECIPE, requested, STEPS, active or [])


def test_a_document_whose_duplicates_remain(real_run: RealRun) -> None:
    (found,) = impact(real_run, [parse_removal("url", pages()[KEPT].url)])
    assert (found.documents, found.corpus_documents, found.remaining_duplicates) == (1, 1, 3)
    assert set(found.remaining_duplicate_urls) <= {pages()[number].url for number in NEAR}
    assert found.remaining_duplicate_urls[0] in str(found)


def test_duplicates_that_are_removed_as_well_do_not_count(real_run: RealRun) -> None:
    cluster = [parse_removal("url", pages()[number].url) for number in (KEPT, *NEAR)]
    found = impact(real_run, cluster[:2], cluster[2:3])
    assert [item.remaining_duplicates for item in found] == [1, 1]
    found = impact(real_run, cluster)
    assert [item.remaining_duplicates for item in found] == [0] * 4


def test_a_domain_matches_dropped_documents_too(real_run: RealRun) -> None:
    (found,) = impact(real_run, [parse_removal("domain", "docs.example.org")])
    own = [page for page in pages() if page.source == "site"]
    assert found.documents == len(own)
    assert found.corpus_documents == sum(page.reason is None for page in own) < len(own)


def test_a_removal_without_a_match_suggests_similar_urls(real_run: RealRun) -> None:
    similar, nothing = impact(
        real_run,
        [
            parse_removal("url", f"http://docs.example.org/page/{KEPT}"),
            parse_removal("id", "0" * 32),
        ],
    )
    assert (similar.documents, similar.suggestions) == (0, (f"{SITE}/page/{KEPT}",))
    assert (nothing.documents, nothing.suggestions) == (0, ())


def test_a_license_that_no_document_has_is_refused(real_run: RealRun) -> None:
    with pytest.raises(InvalidRemovalError, match="CC0-1"):
        impact(real_run, [parse_removal("license", "MTI")])


def test_without_a_run_there_is_no_impact(tmp_path: Path) -> None:
    requested = [parse_removal("license", "anything"), parse_removal("domain", "a.org")]
    assert compute_impact(Storage(str(tmp_path)), RECIPE, requested, STEPS) == []
