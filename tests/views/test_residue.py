"""Which data sets and reports still hold removed documents."""

import shutil
from dataclasses import replace

import pytest

from flows.steps import STEPS
from infra.removals.log import append_removals
from infra.removals.match import parse_removal
from infra.runs.run_records import save_run
from tests.views.real_run import EXACT, KEPT, NASTY, NEAR, RECIPE, SITE, RealRun, pages
from views.documents.dropped import sample_dropped
from views.removal.residue import find_residue
from views.report import build_report
from views.report.page import render


def by_dataset(run: RealRun, *requested: tuple[str, str]) -> dict[str, int | None]:
    removals = [parse_removal(kind, value) for kind, value in requested]
    residual = find_residue(run.storage, RECIPE, removals, STEPS)
    assert all(item.in_latest_run and item.bytes > 0 for item in residual)
    return {item.path.rsplit("-", 1)[0]: item.documents for item in residual}


def test_every_data_set_that_holds_a_kept_document(real_run: RealRun) -> None:
    assert by_dataset(real_run, ("url", pages()[KEPT].url)) == {
        "acquire/site": 1,
        "extract/site": 1,
        "select/all": 1,
        "tokenize/all": 1,
        "index/all": 1,
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
    assert by_dataset(run_copy, ("license", "MIT"))["evaluate/tiny"] is None


def test_evaluations_hold_held_out_documents(run_copy: RealRun) -> None:
    sample = run_copy.dataset("evaluate", "tiny").stats["samples"][0]
    expected = {"evaluate/tiny": 1, "evaluate/late": 1, "tokenize/all": 1, "select/all": 1}
    for removal in (("id", sample["id"]), ("url", sample["url"])):
        assert expected.items() <= by_dataset(run_copy, removal).items()
    shutil.rmtree(run_copy.path("tokenize"))
    assert by_dataset(run_copy, ("url", sample["url"]))["evaluate/tiny"] == 1


def test_a_data_set_that_cannot_be_read_may_hold_anything(run_copy: RealRun) -> None:
    (run_copy.path("extract") / "manifest.json").write_bytes(b"{")
    assert by_dataset(run_copy, ("domain", "elsewhere.org")) == {"extract/site": None}


def quoted_documents(run: RealRun) -> dict[str, str]:
    """Documents that a report of the run quotes, by the section that does."""
    sample = run.dataset("evaluate", "tiny").stats["samples"][0]
    ids = run.ids()
    return {
        "models": sample["id"],
        "reasons": ids[pages()[6].url],
        "duplicates": ids[pages()[NEAR[0]].url],
        "raw": ids[f"{SITE}/empty/0"],
    }


@pytest.mark.parametrize("section", ["models", "reasons", "duplicates", "raw"])
def test_a_report_quotes_documents_until_they_are_removed(run_copy: RealRun, section: str) -> None:
    storage, document = run_copy.storage, quoted_documents(run_copy)[section]
    urls = {value: url for url, value in run_copy.ids().items()}
    removal = parse_removal("url", urls[document])
    path = build_report(storage, run_copy.record, STEPS)
    save_run(storage, replace(run_copy.record, report=path))

    def residue() -> list[tuple[str, int | None, bool]]:
        found = find_residue(storage, RECIPE, [removal], STEPS)
        return [(i.path, i.documents, i.in_latest_run) for i in found if i.path.endswith(".html")]

    assert residue() == [(path, 1, True)]
    append_removals(storage, RECIPE, [removal])
    assert build_report(storage, run_copy.record, STEPS) == path
    assert residue() == []


def test_a_document_that_a_license_removes_is_not_quoted(run_copy: RealRun) -> None:
    assert "owned" in render(run_copy.storage, run_copy.record, STEPS)
    append_removals(run_copy.storage, RECIPE, [parse_removal("license", "CC0-1.0")])
    assert "owned" not in render(run_copy.storage, run_copy.record, STEPS)
    documents = sample_dropped(run_copy.storage, run_copy.record, STEPS, reason="c4_curly_brace")
    assert [document.excerpt for document in documents] == [None]


def test_a_page_quotes_nothing_if_the_removals_cannot_be_read(run_copy: RealRun) -> None:
    run_copy.storage.write(f"removals/{RECIPE}/x.json", b"{}")
    page = render(run_copy.storage, run_copy.record, STEPS)
    assert "data-document" not in page
    assert NASTY[:8] not in page


def test_data_sets_that_were_moved_and_linked_back_are_listed(run_copy: RealRun) -> None:
    for stage in ("select", "train"):
        path = run_copy.path(stage)
        moved = path.rename(run_copy.folder.parent / path.name)
        path.symlink_to(moved)
    assert by_dataset(run_copy, ("url", pages()[EXACT].url)) == {
        "acquire/site": 1,
        "extract/site": 1,
    }
    assert by_dataset(run_copy, ("url", pages()[KEPT].url))["select/all"] == 1
