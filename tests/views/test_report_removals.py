"""The report's section of removals: active ones, dropped documents, models trained on these."""

from flows.steps import STEPS
from infra.removals.log import append_removals
from infra.removals.match import parse_removal
from tests.views.real_run import RECIPE, RealRun, pages
from views.removal.exposure import update_exposure
from views.report.page import render
from views.report.report_run import ReportRun
from views.report.sections.removed import collect


def test_a_store_without_removals_has_no_section(real_run: RealRun) -> None:
    assert collect(ReportRun(real_run.storage, real_run.record, STEPS)) is None
    assert 'id="removed"' not in render(real_run.storage, real_run.record, STEPS)


def test_removals_with_counts_notes_and_models(run_copy: RealRun) -> None:
    storage = run_copy.storage
    unmatched = parse_removal("url", f"{pages()[10].url}?<b>")
    domain = parse_removal("domain", "docs.example.org")
    append_removals(storage, RECIPE, [unmatched, domain], "asked <i>by mail</i>")
    update_exposure(storage, RECIPE, [domain], STEPS)
    section = collect(ReportRun(storage, run_copy.record, STEPS))
    assert section is not None
    assert len(section.removals) == 2
    assert section.documents == {}, "recorded after the run"
    assert {model.model for model in section.models} == {"tiny", "late"}
    page = render(storage, run_copy.record, STEPS)
    assert 'href="#removed"' in page
    assert "asked &lt;i&gt;by mail&lt;/i&gt;" in page
    assert "<i>by mail" not in page
    assert f"{pages()[10].url}?%3Cb%3E" in page
    assert all(model.path in page for model in section.models)
    (tiny,) = [model for model in section.models if model.model == "tiny"]
    assert f"{tiny.first_step} to {tiny.last_step}" in page


def test_a_damaged_record_does_not_prevent_a_page(run_copy: RealRun) -> None:
    run_copy.storage.write(f"removals/{RECIPE}/x.json", b"{}")
    assert 'id="removed"' not in render(run_copy.storage, run_copy.record, STEPS)
