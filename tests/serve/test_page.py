"""The page of the endpoint in a real browser, with a mouse, with a keyboard alone, and on a phone."""

import ast
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.steps import STEPS
from serve.api.app import create_app
from serve.api.limits import Limits
from serve.engines.interface import Load, Vector
from serve.hub import Engines, Hub, ModelSource
from serve.models import ServedModel
from tests.browser import open_page
from tests.limits import wait_for
from tests.serve.page import FINISHED, ask, choose
from tests.serve.served import Parrot, Served, model_folder, serving, source
from tests.views.real_run import RealRun, pages, shared_run
from views.source.finder import open_finder
from views.source.removed import RemovedDocuments

pytestmark = pytest.mark.e2e

MARKUP = "<b>bold</b> & plain. "
KEY = "a-key"


class Labeler:
    """Says the same of all texts."""

    name, is_ready = "labeler", True

    def load(self) -> Load:
        return Load(0, 0, 0)

    async def classify(self, texts: Sequence[Sequence[int]]) -> Vector:
        return np.tile(np.array([0.25, 0.75], np.float32), (len(texts), 1))

    async def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> RealRun:
    return shared_run(tmp_path_factory)


@pytest.fixture(scope="module")
def document(real_run: RealRun) -> tuple[str, str]:
    """URL and some words of a document that the model was trained on."""
    rows = real_run.dataset("tokenize").table(["url", "split"]).to_pylist()
    trained = {row["url"] for row in rows if row["split"] == "train"}
    page = next(page for page in pages() if page.url in trained and page.source == "library")
    return page.url, " ".join(page.text.split()[3:21])


@pytest.fixture(scope="module")
def parrots(document: tuple[str, str]) -> dict[str, Parrot]:
    return {
        "writer": Parrot(f"Xyzzy 😀: {document[1]} and qwertz."),
        "plain": Parrot(MARKUP),
        "slow": Parrot("word ", step_s=0.02),
        "echo": Parrot(),
    }


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, real_run: RealRun, parrots: dict[str, Parrot]
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    export = next(
        e.path for e in real_run.record.stages if (e.stage, e.entry) == ("release", "late")
    )
    plain = [
        source(name, model_folder(folder / name, context=2000, chat=name == "echo"))
        for name in ("plain", "slow", "echo")
    ]
    written = source("writer", model_folder(folder / "writer", context=2000, chat=False)).find()
    removed = RemovedDocuments(real_run.storage, "nothing-removed")
    target = replace(
        written, open_sources=lambda: open_finder(real_run.storage, export, STEPS, removed)
    )
    sources = [ModelSource("writer", lambda: target), *plain, source("labels", classifier(folder))]

    async def start(model: ServedModel) -> Engines:
        if model.name == "labels":
            return Engines(None, Labeler())  # type: ignore[arg-type]
        return Engines(parrots[model.name], None)

    with serving(create_app(Hub(sources, start), Limits())) as running:
        yield running


def classifier(folder: Path) -> Path:
    """Write the folder of a classifier of two labels."""
    path = model_folder(folder / "labels")
    config = json.loads((path / "config.json").read_text())
    config["architectures"] = ["LlamaForSequenceClassification"]
    config["id2label"] = {"0": "negative", "1": "positive"}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_text_appears_while_it_is_written_and_stop_frees_the_slot(
    page: Any, served: Served, parrots: dict[str, Parrot]
) -> None:
    choose(page, "slow", 1900)
    page.locator("#input").fill("a")
    page.get_by_role("button", name="Generate").click()
    page.locator(".token").nth(12).wait_for()
    assert page.locator("#halt").is_enabled()
    assert parrots["slow"].running == 1
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(FINISHED)
    wait_for(lambda: parrots["slow"].running == 0)
    assert page.locator(".text").inner_text().startswith("aword word w")
    assert page.locator(".state").inner_text().startswith("Stopped after ")
    page.locator("#input").focus()
    page.keyboard.press("Control+Enter")
    page.locator(".token").nth(3).wait_for()
    page.keyboard.press("Escape")
    page.wait_for_selector(FINISHED)
    wait_for(lambda: parrots["slow"].running == 0)


def test_probabilities_are_shown_on_hover_and_on_focus(page: Any) -> None:
    choose(page, "plain", 21)
    ask(page, "x")
    token, details = page.locator(".token").nth(1), page.get_by_role("tooltip")
    assert not details.is_visible()
    token.hover()
    assert "“b”: 61 %" in details.inner_text()
    assert "ab" in details.inner_text()  # an alternative, exp(-1.5)
    assert "22 %" in details.inner_text()
    page.mouse.move(0, 0)
    details.wait_for(state="hidden")
    page.locator("#input").focus()
    page.keyboard.press("Tab")  # Generate
    page.keyboard.press("Tab")  # the first token: Stop is disabled
    assert "“<”: 61 %" in details.inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "“>”" in details.inner_text()
    page.keyboard.press("Escape")
    assert not details.is_visible()
    page.keyboard.press("End")
    assert "“␣”" in details.inner_text()
    page.get_by_label("Token probabilities").uncheck()
    ask(page, "x")
    assert page.locator(".token").count() == 0
    assert MARKUP.strip() in page.locator(".text").inner_text()
    assert page.locator(".text b").count() == 0


def test_sources_are_marked_and_lead_to_their_documents(
    page: Any, document: tuple[str, str]
) -> None:
    url, words = document
    length = len(f"Xyzzy 😀: {words} and".encode())
    choose(page, "writer", length)
    ask(page, "x")
    marked = "".join(page.locator(".known").all_text_contents())
    assert marked == words
    passage = page.locator(".sources ol > li")
    assert passage.count() == 1
    assert words[:40] in passage.inner_text()
    link = passage.get_by_role("link")
    assert (link.get_attribute("href"), link.inner_text()) == (url, url)
    assert "noopener" in link.get_attribute("rel")
    assert "license CC0-1.0" in passage.inner_text()
    assert "read by tiny in step" in passage.inner_text()
    page.locator(".token.known").nth(3).focus()
    page.keyboard.press("Enter")
    assert page.locator(".sources ol > li:focus").count() == 1
    assert page.locator(".pointed").count() == page.locator(".known").count()
    page.get_by_role("link", name="Source 1 of the text of writer").click()
    # Text that may be the beginning of a stop comes in one piece, with ends of the passage within it.
    page.get_by_label("Token probabilities").uncheck()
    page.get_by_label("Stop").fill(f"😀: {words[:9]}?\n{words[-9:]} an?")
    ask(page, "x")
    assert "".join(page.locator(".known").all_text_contents()) == words
    choose(page, "writer", 5)
    ask(page, "x")
    assert "in the training data" in page.locator(".sources").inner_text()
    assert page.locator(".known").count() == 0


def test_a_model_without_an_index_has_no_control_for_sources(page: Any) -> None:
    assert page.get_by_label("Where the words come from").is_visible()
    choose(page, "plain")
    assert not page.get_by_label("Where the words come from").is_visible()
    assert "index" in page.locator("#no-sources").inner_text()
    ask(page, "x")
    assert not page.locator(".sources").is_visible()


def test_two_models_answer_the_same_prompt_side_by_side(
    page: Any, document: tuple[str, str]
) -> None:
    choose(page, "writer", 60)
    page.get_by_label("Compare with a second model").check()
    page.get_by_label("Second model", exact=True).select_option("plain")
    ask(page, "Once")
    one, two = page.get_by_role("article").all()
    assert one.bounding_box()["y"] == two.bounding_box()["y"]
    assert one.locator(".text").inner_text().startswith("OnceXyzzy 😀: ")
    assert two.locator(".text").inner_text().startswith(f"Once{MARKUP}")
    assert "60 tokens" in two.locator(".state").inner_text()


def test_errors_are_told_in_words(page: Any) -> None:
    ask(page, "long " * 500)
    alert = page.locator(".output").get_by_role("alert")
    assert "2500 tokens" in alert.inner_text()
    assert page.locator("#send").is_enabled()
    page.get_by_label("Top p").fill("3")
    page.locator("#input").fill("x")
    page.get_by_role("button", name="Generate").click()
    assert page.locator("#top_p:invalid:focus").count() == 1


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.locator(f"{selector}:focus").count():
            return
    raise AssertionError(f"Tab does not lead to {selector}")


def test_the_page_is_used_with_a_keyboard_alone(page: Any) -> None:
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")
    tab_to(page, ".skip")
    page.keyboard.press("Enter")
    assert page.locator("#input:focus").count() == 1
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")
    tab_to(page, "#temperature")
    page.keyboard.press("Control+A")
    page.keyboard.type("0")
    tab_to(page, "#input")
    page.keyboard.type("Go")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(FINISHED)
    tab_to(page, ".token")
    tab_to(page, "a.reference")
    page.keyboard.press("Enter")
    tab_to(page, ".sources a")
    names = page.locator("input:visible, select:visible, textarea:visible, button:visible").all()
    assert all(item.evaluate("node => node.labels?.length || node.textContent") for item in names)


@pytest.mark.parametrize("width", [320, 400, 768])
def test_nothing_is_wider_than_the_screen(page: Any, width: int, document: tuple[str, str]) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    choose(page, "writer", 180)
    page.get_by_label("Compare with a second model").check()
    ask(page, "unbroken" * 20)
    assert page.locator(".sources ol > li").count() >= 1
    page.locator(".token").nth(20).focus()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    box = page.get_by_role("tooltip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_colors_follow_the_system_and_a_button(browser: Any, served: Served) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(served.url)
    background = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Use light colors").click()
    assert page.evaluate(background) == "rgb(255, 255, 255)" != dark
    context.close()


def test_a_classifier_shows_its_labels(page: Any) -> None:
    choose(page, "labels")
    ask(page, "Fine.", "Classify")
    rows = page.locator(".scores tr").all_inner_texts()
    assert [row.split()[:2] for row in rows] == [["positive", "75"], ["negative", "25"]]


def test_the_page_asks_for_a_key_and_its_code_reads_it(browser: Any, tmp_path: Path) -> None:
    hub = Hub([source("keyed", model_folder(tmp_path / "keyed"))], start_parrot)
    with serving(create_app(hub, Limits(), api_keys=[KEY])) as keyed:
        page = open_page(browser)
        page.goto(keyed.url)
        page.get_by_role("textbox", name="API key").fill("wrong")
        page.get_by_role("button", name="Use this key").click()
        page.locator("#key-problem").wait_for()
        page.get_by_role("textbox", name="API key").fill(KEY)
        page.keyboard.press("Enter")
        page.locator("#about").get_by_text("keyed").wait_for()
        page.get_by_label("Completion").check()
        prompt = "x: true, [true] it's null}"
        ask(page, prompt)
        assert page.locator(".text").inner_text().startswith(prompt)
        curl, python = page.locator("#snippet").text_content().split("\n\n", 1)
        words = shlex.split(curl)
        assert "Authorization: Bearer $GRISTMILL_API_KEY" in words
        body = json.loads(words[-1])
        assert body["prompt"] == prompt
        assert KEY not in curl + python
        assert 'api_key=os.environ["GRISTMILL_API_KEY"]' in python
        calls = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call)]
        create = next(node for node in calls if ast.unparse(node.func).endswith(".create"))
        given = {item.arg: ast.literal_eval(item.value) for item in create.keywords}
        assert {**given, **given.pop("extra_body", {})} == body
        page.context.close()


async def start_parrot(_model: ServedModel) -> Engines:
    return Engines(Parrot(), None)
