"""The report page as text: any prefix of a run, any document, exact counts."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from flows.steps import STEPS
from infra.runs.run_records import FAILED
from infra.store.storage import Storage
from tests.inline import go, save_record
from tests.views.real_run import RECIPE, RealRun, recipe
from views.report import build_report, formatting
from views.report.charts import Line, bar_chart, downsample, histogram, line_chart, nice_ticks
from views.report.page import collect_page, render
from views.report.report_run import ReportRun
from views.report.sections import SECTIONS
from views.report.sections.duplicates.examples import highlight_differences

MISSING = ("removed", "word_vectors", "finetune", "gates")  # sections of what the run does not have


@pytest.fixture(scope="module")
def page(real_run: RealRun) -> str:
    return render(real_run.storage, real_run.record, STEPS)


def test_the_page_is_one_file_below_reports(run_copy: RealRun) -> None:
    path = build_report(run_copy.storage, run_copy.record, STEPS)
    assert path == f"reports/{RECIPE}/{run_copy.record.run}.html"
    text = run_copy.storage.read(path).decode()
    assert text.startswith("<!doctype html>")
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", text)
    assert "<script" not in text
    assert "@import" not in text


def test_every_link_of_the_page_leads_to_a_part_of_it(page: str) -> None:
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert len(links) > len(SECTIONS) - len(MISSING)
    assert links <= set(re.findall(r'id="([^"]+)"', page))


def test_equal_runs_give_equal_pages(real_run: RealRun, page: str) -> None:
    assert render(real_run.storage, real_run.record, STEPS) == page


def test_every_section_of_a_complete_run_is_in_the_page(page: str) -> None:
    for section in SECTIONS:
        shown = section.name not in MISSING
        assert (f'<section id="{section.name}"' in page) is shown
        assert (f'href="#{section.name}"' in page) is shown


def test_each_neural_model_is_shown_with_what_it_looks_at(real_run: RealRun) -> None:
    interpretations = collect_page(real_run.storage, real_run.record, STEPS).data("interpret")
    assert [item.name for item in interpretations] == [
        model.name for model in real_run.record.models
    ]
    for item in interpretations:
        assert item.document
        assert item.attributions
        assert item.maps
        assert item.places
        assert item.neighbors


def test_text_of_documents_is_escaped(page: str) -> None:
    assert "&lt;script&gt;alert(&#34;owned&#34;)&lt;/script&gt;" in page
    assert "&lt;img src=x" in page
    assert "😀 مرحبا 你好" in page


def test_the_funnel_adds_up_by_stage_and_source(real_run: RealRun) -> None:
    stages = {
        stage.stage: stage for stage in ReportRun(real_run.storage, real_run.record, STEPS).funnel
    }
    assert list(stages) == ["acquire", "extract", "annotate", "dedup", "select", "tokenize"]
    before = None
    for stage in stages.values():
        assert stage.n_in == stage.n_out + stage.dropped + stage.failed
        assert before is None or stage.n_in == before.n_out
        assert stage.n_out == sum(own.kept for own in stage.by_source.values())
        assert stage.text_bytes == sum(stage.bytes_by_source.values())
        before = stage
    assert stages["extract"].passed_through == 40
    select = stages["select"]
    language = next(reason for reason in select.reasons if reason.reason == "language")
    assert sum(language.by_source.values()) == language.count
    entry = next(item for item in real_run.record.stages if item.stage == "select")
    assert select.text_bytes == entry.text_bytes
    assert stages["acquire"].compressed
    assert not select.compressed


def test_every_reason_has_samples_with_a_link_to_them(page: str) -> None:
    for reason in ("http_404", "bad_json"):
        assert f'id="drop-acquire-{reason}"' in page
    for reason in ("language", "near_duplicate", "exact_duplicate", "c4_curly_brace"):
        assert f'id="drop-select-{reason}"' in page
    assert 'href="#left-select"' in page
    assert 'id="left-select"' in page


def test_models_are_compared_with_the_better_baseline(real_run: RealRun, page: str) -> None:
    for model in real_run.record.models:
        bits = model.metrics["bits_per_byte"]
        best = min(value["bits_per_byte"] for value in model.metrics["baselines"].values())
        assert formatting.format_float(bits) in page
        assert formatting.format_delta(bits / best - 1) in page
        assert f"<dt>{model.name} continues</dt>" in page


@pytest.mark.parametrize("until", ["acquire", "select", "tokenize"])
def test_a_run_that_stopped_early_has_a_page(real_run: RealRun, until: str) -> None:
    text = render(real_run.storage, real_run.until(until), STEPS)
    assert 'id="models"' not in text
    assert ('id="corpus"' in text) is (until != "acquire")
    assert 'data-stage="acquire"' in text


def test_a_run_without_documents_is_a_page(tmp_path: Path) -> None:
    (tmp_path / "0.jsonl").write_text("")
    value = recipe(tmp_path / "store", tmp_path)
    value |= {"sources": value["sources"][1:], "train": []}
    record = save_record(value, go(value, until="select"))
    text = render(Storage(str(tmp_path / "store")), record, STEPS)
    assert "The corpus is empty" in text
    assert "No duplicates were found" in text
    assert "nan" not in text.lower()


def test_a_failed_run_shows_its_error_and_the_completed_stages(real_run: RealRun) -> None:
    failed = replace(
        real_run.until("extract"),
        state=FAILED,
        error="annotate site: loss is not finite <at step 3>",
    )
    text = render(real_run.storage, failed, STEPS)
    assert "loss is not finite &lt;at step 3&gt;" in text
    assert 'data-stage="extract"' in text
    assert 'data-stage="select"' not in text
    nothing = replace(failed, stages=[])
    assert "No stage was completed" in render(real_run.storage, nothing, STEPS)


def test_deleted_data_sets_are_shown_as_deleted(run_copy: RealRun) -> None:
    for stage in ("select", "evaluate", "acquire"):
        shutil.rmtree(run_copy.path(stage))
    text = render(run_copy.storage, run_copy.record, STEPS)
    assert '<td colspan="5" class="worse">deleted</td>' in text
    assert 'data-stage="select"' in text


def test_charts_are_well_formed_and_escape_their_titles() -> None:
    line = Line("a", [(0, 1.0), (1, float("nan")), (2, 3.0)], dots=True)
    charts = [
        line_chart([line], title='<"loss">'),
        line_chart([Line("one point", [(5, 5.0)])], title="x"),
        line_chart([Line("flat", [(0, 0.0), (9, 0.0)])], title="x", from_zero=True),
        bar_chart([("<2>", 3), ("3+", 0)], title="x"),
        histogram([0, 1, 2], [3, 0], [0, 1], title="x", thresholds=[0.5, 9]),
        histogram([0, 1, 2], [0, 0], [0, 0], title="x", thresholds=[10], log=True),
    ]
    for chart in charts:
        root = ET.fromstring(str(chart))
        assert root.get("aria-label")
        numbers_in = re.findall(r"\s(?:x|y|x1|y1|cx|cy|width|height)=\"([^\"]+)\"", str(chart))
        assert all(abs(float(value)) < 1000 for value in numbers_in)
    assert str(line_chart([Line("empty", [])], title="x")) == ""


def test_ticks_are_round_and_cover_the_values() -> None:
    assert nice_ticks(0, 10) == [0, 2.5, 5, 7.5, 10]
    assert nice_ticks(3.1, 8.2)[0] <= 3.1
    assert nice_ticks(3.1, 8.2)[-1] >= 8.2
    assert len(nice_ticks(5, 5)) >= 2


def test_long_curves_are_downsampled() -> None:
    points = [(float(x), float(x)) for x in range(10_001)]
    kept = downsample(points)
    assert len(kept) < 410
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]


def test_only_differences_are_marked() -> None:
    left, right = highlight_differences("the river <froze> here", "the stream <froze> here")
    assert str(left) == "the <mark>river</mark> &lt;froze&gt; here"
    assert str(right) == "the <mark>stream</mark> &lt;froze&gt; here"
    same, other = highlight_differences("equal words " * 100, "equal  words\n" * 100)
    assert "<mark>" not in str(same) + str(other)
    assert len(str(same).split()) < 200
    far, _ = highlight_differences("a b " * 500 + "x", "a b " * 500 + "y")
    assert "<mark>x</mark>" in str(far)
    assert len(str(far)) < 1000
    inserted, _ = highlight_differences("new " * 300 + "old words stay", "old words stay")
    assert str(inserted).endswith("</mark> old words stay")
    chinese, _ = highlight_differences("磨坊就会转动", "磨坊不会转动")
    assert "<mark>就</mark>" in str(chinese)
    assert highlight_differences("", "") == ("", "")


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (formatting.format_si(999), "999"),
        (formatting.format_si(1234), "1.23k"),
        (formatting.format_si(53_548), "53.5k"),
        (formatting.format_si(999_900), "1.00M"),
        (formatting.format_tick(1_000_000), "1M"),
        (formatting.format_tick(1_500_000), "1.5M"),
        (formatting.format_tick(20_000), "20k"),
        (formatting.format_tick(100_000), "100k"),
        (formatting.format_tick(2500), "2500"),
        (formatting.format_tick(0.0025), "0.0025"),
        (formatting.format_tick(-30_000_000), "-30M"),
        (formatting.format_bytes(0), "0 B"),
        (formatting.format_bytes(214_499), "214 kB"),
        (formatting.format_percent(0, 0), "–"),
        (formatting.format_percent(0, 5), "0 %"),
        (formatting.format_percent(1, 10_000), "< 0.1 %"),
        (formatting.format_percent(99_999, 100_000), "> 99.9 %"),
        (formatting.format_duration(59.99), "1 min 00 s"),
        (formatting.format_duration(125), "2 min 05 s"),
        (formatting.format_duration(3 * 3600 + 605), "3 h 10 min"),
        (formatting.format_float(None), "–"),
        (formatting.format_float(float("nan")), "–"),
        (formatting.format_time("2026-01-31T12:00:00+00:00"), "31 January 2026, 12:00 UTC"),
        (formatting.format_time("yesterday"), "yesterday"),
        (formatting.format_4g(0.123456), "0.1235"),
        (formatting.format_4g(True), "True"),
    ],
)
def test_numbers_read_well(got: str, expected: str) -> None:
    assert got == expected
