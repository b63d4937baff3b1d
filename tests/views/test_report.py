"""The report's page as text: any prefix of the road, any document, honest figures."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from infra.runs.run_records import FAILED, RunRecord
from tests.views.datasets import Road, walk
from views.report import build_report, formatting
from views.report.charts import Bar as ChartBar
from views.report.charts import Line, bar_chart, downsample, histogram, line_chart, nice_ticks
from views.report.duplicates import highlight_differences
from views.report.funnel import build_funnel
from views.report.page import render


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    return walk(tmp_path_factory.mktemp("road"))


def record_of(road: Road) -> RunRecord:
    assert road.record is not None
    return road.record


@pytest.fixture(scope="module")
def page(road: Road) -> str:
    return render(road.storage, record_of(road))


def test_the_page_is_one_file_below_reports(road: Road) -> None:
    path = build_report(road.storage, record_of(road))
    assert path == f"reports/quickstart/{record_of(road).run}.html"
    text = road.storage.read(path).decode()
    assert text.startswith("<!doctype html>")
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", text)
    assert "<script" not in text
    assert "@import" not in text


def test_equal_runs_give_equal_pages(road: Road, page: str) -> None:
    assert render(road.storage, record_of(road)) == page


def test_text_of_documents_is_escaped(page: str) -> None:
    assert "&lt;script&gt;alert(&#34;owned&#34;)&lt;/script&gt;" in page
    assert "&lt;img src=x" in page
    assert "😀 مرحبا 你好" in page
    assert "&lt;b&gt;stones&lt;/b&gt;" in page


def test_the_funnel_adds_up_by_stage_and_source(road: Road) -> None:
    found = [(entry, entry.open(road.storage)) for entry in record_of(road).stages]
    steps = {step.stage: step for step in build_funnel(found)}
    assert list(steps) == ["acquire", "extract", "annotate", "dedup", "select", "tokenize"]
    before = None
    for step in steps.values():
        assert step.n_in == step.n_out + step.dropped + step.failed
        assert before is None or step.n_in == before.n_out
        assert step.n_out == sum(own.kept for own in step.by_source.values())
        assert step.text_bytes == sum(step.bytes_by_source.values())
        before = step
    assert steps["extract"].passed_through == 40
    select = steps["select"]
    language = next(reason for reason in select.reasons if reason.reason == "language")
    assert sum(language.by_source.values()) == language.count
    entry = next(item for item in record_of(road).stages if item.stage == "select")
    assert select.text_bytes == entry.text_bytes
    assert steps["acquire"].compressed
    assert not select.compressed


def test_every_reason_has_samples_with_a_link_to_them(page: str) -> None:
    for reason in ("http_status", "robots"):
        assert f'id="drop-acquire-{reason}"' in page
    for reason in ("language", "near_duplicate", "exact_duplicate", "c4_curly_brace"):
        assert f'id="drop-select-{reason}"' in page
    assert 'href="#left-select"' in page
    assert 'id="left-select"' in page


def test_models_are_compared_with_the_better_baseline(page: str) -> None:
    assert "1.930" in page
    assert "−16.5 %" in page  # 1.93 against the 3-gram's 2.31
    assert "+2.6 %" in page
    assert "tiny goes on" in page
    assert "narrow goes on" in page


@pytest.mark.parametrize("until", ["acquire", "select", "tokenize"])
def test_any_prefix_of_the_road_is_a_page(tmp_path: Path, until: str) -> None:
    road = walk(tmp_path, until=until, count=48)
    text = render(road.storage, record_of(road))
    assert ('id="models"' in text) is False
    assert ('id="mix"' in text) is (until != "acquire")
    assert 'data-stage="acquire"' in text


def test_a_run_without_documents_is_a_page(tmp_path: Path) -> None:
    road = walk(tmp_path, until="tokenize", count=0)
    text = render(road.storage, record_of(road))
    assert "The corpus is empty" in text or "0" in text
    assert "No two documents were alike" in text
    assert "nan" not in text.lower().replace("nano", "")


def test_a_failed_run_shows_its_error_and_how_far_it_came(road: Road) -> None:
    failed = replace(
        record_of(road),
        state=FAILED,
        error="train tiny: loss is not finite <at step 3>",
        stages=record_of(road).stages[:3],
        models=[],
    )
    text = render(road.storage, failed)
    assert "loss is not finite &lt;at step 3&gt;" in text
    assert 'data-stage="extract"' in text
    assert 'data-stage="select"' not in text
    nothing = replace(failed, stages=[])
    assert "No stage was completed" in render(road.storage, nothing)


def test_a_data_set_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    road = walk(tmp_path, count=48)
    for stage in record_of(road).stages:
        if stage.stage in ("select", "evaluate", "acquire"):
            road.storage.subdir(*stage.path.split("/")).remove_tree()
    text = render(road.storage, record_of(road))
    assert "no longer there" in text
    assert 'data-stage="select"' in text


def test_charts_are_well_formed_and_escape_their_titles() -> None:
    line = Line("a", [(0, 1.0), (1, float("nan")), (2, 3.0)], dots=True)
    charts = [
        line_chart([line], title='<"loss">'),
        line_chart([Line("one point", [(5, 5.0)])], title="x"),
        line_chart([Line("flat", [(0, 0.0), (9, 0.0)])], title="x", from_zero=True),
        bar_chart([ChartBar("<2>", 3), ChartBar("3+", 0)], title="x"),
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


def test_long_curves_are_thinned_to_what_can_be_seen() -> None:
    points = [(float(x), float(x)) for x in range(10_001)]
    kept = downsample(points)
    assert len(kept) < 410
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]


def test_comparison_marks_only_what_differs() -> None:
    left, right = highlight_differences("the river <froze> here", "the stream <froze> here")
    assert str(left) == "the <mark>river</mark> &lt;froze&gt; here"
    assert str(right) == "the <mark>stream</mark> &lt;froze&gt; here"
    same, other = highlight_differences("equal words " * 100, "equal words " * 100)
    assert "<mark>" not in str(same) + str(other)
    assert " … " in str(same)
    far, _ = highlight_differences("a b " * 500 + "x", "a b " * 500 + "y")
    assert str(far).startswith("… ")
    assert "<mark>x</mark>" in str(far)
    assert len(str(far)) < 1000
    inserted, _ = highlight_differences("new " * 300 + "old words stay", "old words stay")
    assert str(inserted).endswith("</mark>old words stay")
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
