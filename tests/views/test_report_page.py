"""The report in a real browser: what it shows, where its links lead, on a desktop and a phone."""

from collections.abc import Iterator
from typing import Any

import pytest

from flows.steps import STEPS
from tests.browser import open_browser, open_page
from tests.views.real_run import NASTY, RECIPE, RealRun
from views.report.page import render

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as running:
        yield running


@pytest.fixture(scope="module")
def url(real_run: RealRun, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(real_run.storage, real_run.record, STEPS))
    return path.as_uri()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page, which must log nothing and request nothing."""
    opened = open_page(browser)
    messages: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("dialog", lambda dialog: messages.append(dialog.message))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(url)
    yield opened
    assert messages == []
    assert [item for item in requests if item.split("#")[0] != url and item != "data:,"] == []
    opened.context.close()


def test_numbers_are_those_of_the_data(page: Any, real_run: RealRun) -> None:
    record = real_run.record
    entries = {stage.stage: stage for stage in record.stages}
    for stage in ("annotate", "select", "tokenize"):
        kept = sum(s.counts.kept for s in record.stages if s.stage == stage)
        row = page.locator(f'.funnel li[data-stage="{stage}"] .kept-count')
        assert row.inner_text() == f"{kept:,}"
    for reason, count in entries["select"].counts.dropped.items():
        shown = page.locator(f'#reasons [data-reason="{reason}"] .count').inner_text()
        assert shown == f"{count:,}"
    tiles = page.locator(".tiles").inner_text()
    assert f"{entries['select'].counts.kept}\n" in tiles
    best = min(model.metrics["bits_per_byte"] for model in record.models)
    assert f"{best:.3f}" in tiles
    assert page.title() == f"{RECIPE}, run {record.run}"


def test_bars_are_as_long_as_their_numbers(page: Any, real_run: RealRun) -> None:
    record = real_run.record
    n_in = sum(s.counts.n_in for s in record.stages if s.stage == "acquire")
    kept = next(s.counts.kept for s in record.stages if s.stage == "select")
    bar = page.locator('.funnel li[data-stage="select"]')
    width = bar.locator(".docs .seg-kept").bounding_box()["width"]
    track = bar.locator(".docs").bounding_box()["width"]
    assert width / track == pytest.approx(kept / n_in, abs=0.01)


def test_a_reason_opens_on_its_samples(page: Any) -> None:
    reason = page.locator('[data-reason="c4_curly_brace"]')
    sample = reason.locator(".sample").first
    assert not sample.is_visible()
    reason.locator("summary").click()
    assert sample.is_visible()
    text = sample.locator(".text").inner_text()
    assert text.startswith(NASTY)
    assert "library" in sample.inner_text()
    assert reason.locator("script, img").count() == 0


def test_links_lead_to_what_they_name(page: Any, url: str) -> None:
    page.locator('.funnel li[data-stage="select"] .loss a').click()
    heading = page.locator("#left-select")
    assert heading.bounding_box()["y"] < 900
    for link in page.locator("nav a").all():
        target = link.get_attribute("href")
        assert page.locator(target).count() == 1
    # A URL with the anchor of the samples opens them.
    page.goto(f"{url}#drop-select-language")
    assert page.locator("#drop-select-language .sample").first.is_visible()


def test_duplicates_are_side_by_side_with_the_difference_marked(page: Any) -> None:
    pair = page.locator(".pair").first
    left, right = pair.locator(".sides > div").all()
    assert left.bounding_box()["y"] == right.bounding_box()["y"]
    assert left.locator("mark").count() == 0
    assert "It was read" in right.locator("mark").first.inner_text()


def test_curves_and_tables_have_names(page: Any) -> None:
    charts = page.locator("svg[role=img]")
    assert charts.count() >= 6
    assert all(chart.get_attribute("aria-label") for chart in charts.all())
    tables = page.locator("table")
    assert page.locator("table > caption").count() == tables.count()
    assert page.locator(".evaluation tbody tr:not(.group)").count() == 4
    assert page.locator(".evaluation td.worse").count() >= 1
    assert page.locator(".evaluation td.best").count() == 4


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    for summary in page.locator(".reason > summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_dark_and_print_are_readable(page: Any) -> None:
    def colors() -> tuple[str, str]:
        style = "getComputedStyle(document.body)"
        return page.evaluate(f"{style}.color"), page.evaluate(f"{style}.backgroundColor")

    light = colors()
    page.emulate_media(color_scheme="dark")
    dark = colors()
    assert light != dark
    assert sum(map(int, dark[1][4:-1].split(", "))) < 120
    page.emulate_media(media="print", color_scheme="light")
    assert not page.locator("nav").is_visible()
