"""Which data sets still hold removed documents."""

import shutil

from flows.steps import STEPS
from infra.removals.match import parse_removal
from tests.views.real_run import KEPT, NEAR, RECIPE, RealRun, pages
from views.removal.residue import find_residual


def by_dataset(run: RealRun, *requested: tuple[str, str]) -> dict[str, int | None]:
    removals = [parse_removal(kind, value) for kind, value in requested]
    residual = find_residual(run.storage, RECIPE, removals, STEPS)
    assert all(item.in_latest_run and item.bytes > 0 for item in residual)
    return {item.path.rsplit("-", 1)[0]: item.documents for item in residual}


def test_every_data_set_that_holds_a_kept_document(real_run: RealRun) -> None:
    assert by_dataset(real_run, ("url", pages()[KEPT].url)) == {
        "acquire/site": 1,
        "extract/site": 1,
        "select/all": 1,
        "tokenize/all": 1,
    }


def test_a_dropped_document_is_in_the_sources_only(real_run: RealRun) -> None:
    document = real_run.ids()[pages()[NEAR[0]].url]
    assert by_dataset(real_run, ("id", document)) == {"acquire/site": 1, "extract/site": 1}


def test_nothing_holds_what_matches_nothing(real_run: RealRun) -> None:
    assert by_dataset(real_run, ("domain", "elsewhere.org")) == {}
    assert by_dataset(real_run) == {}


def test_shards_of_a_deleted_corpus(run_copy: RealRun) -> None:
    shutil.rmtree(run_copy.path("select"))
    assert by_dataset(run_copy, ("url", pages()[KEPT].url))["tokenize/all"] == 1
    assert by_dataset(run_copy, ("license", "MIT"))["tokenize/all"] is None
