"""A conversation on the page of the endpoint, in a real browser: it goes on, and its end is in sight."""

from collections.abc import Iterator
from typing import Any

import pytest

from serve.api.app import create_app
from serve.api.limits import Limits
from serve.hub import Engines, Hub
from serve.models import ServedModel
from tests.limits import wait_for
from tests.serve.page import ask, choose
from tests.serve.served import Parrot, Served, model_folder, serving, source

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    sources = [
        source(name, model_folder(folder / name, context=2000, chat=name == "echo"))
        for name in ("plain", "echo")
    ]
    parrots = {"plain": Parrot("words"), "echo": Parrot()}

    async def start(model: ServedModel) -> Engines:
        return Engines(parrots[model.name], None)

    with serving(create_app(Hub(sources, start), Limits())) as running:
        yield running


def test_a_conversation_goes_on(page: Any) -> None:
    choose(page, "plain")
    assert page.get_by_label("Chat").count() == 0  # it has no chat template
    choose(page, "echo", 40)
    page.get_by_label("Chat").check()
    ask(page, "Hello", "Send")
    assert page.locator(".output .text").inner_text().startswith("user: Hello\n")
    assert page.locator(".token").count() == 40
    ask(page, "And?", "Send")
    answer = page.locator(".output .text").nth(1).inner_text()
    assert answer.startswith("user: Hello\nassistant: user: Hello\n")
    page.get_by_role("button", name="New conversation").click()
    ask(page, "Bye", "Send")
    assert page.locator(".output .text").inner_text().startswith("user: Bye\n")


def test_an_error_in_a_long_conversation_is_in_sight(page: Any) -> None:
    page.set_viewport_size({"width": 400, "height": 700})
    choose(page, "echo")
    page.get_by_label("Chat").check()
    for text in ("Hello", "And?"):
        ask(page, text, "Send")
    page.locator("#input").fill("long " * 500)
    page.get_by_role("button", name="Send").click()
    wait_for(lambda: is_in_sight(page, page.locator(".output").get_by_role("alert")))


def is_in_sight(page: Any, item: Any) -> bool:
    """Whether an item is on the screen and above the form of the conversation."""
    box, form = item.bounding_box(), page.locator(".conversation").bounding_box()
    return bool(box) and box["y"] >= 0 and box["y"] + box["height"] <= form["y"]


# What the page does when text comes between its scrolling and the event that tells of it.
GROW_AFTER_SCROLLING = """() => {
  const scrollTo = window.scrollTo.bind(window);
  const lines = ["more", "more", "the last line"];
  window.scrollTo = (...to) => {
    scrollTo(...to);
    const line = lines.shift();
    if (line) setTimeout(() => {
      const item = document.createElement("p");
      item.style.height = "100px";
      item.textContent = line;
      document.getElementById("turns").append(item);
    });
  };
}"""


# Resolves when the page has scrolled, or has not.
GROW = """() => new Promise((done) => {
  const item = document.createElement("p");
  item.style.height = "100px";
  item.textContent = "one more line";
  document.getElementById("turns").append(item);
  requestAnimationFrame(() => requestAnimationFrame(done));
})"""


def test_a_conversation_stays_at_its_end_unless_its_reader_scrolls_up(page: Any) -> None:
    page.set_viewport_size({"width": 400, "height": 700})
    choose(page, "echo")
    page.get_by_label("Chat").check()
    for text in ("Hello", "And?"):
        ask(page, text, "Send")
    page.evaluate(GROW_AFTER_SCROLLING)
    ask(page, "long " * 100, "Send")
    last = page.get_by_text("the last line")
    wait_for(lambda: is_in_sight(page, last))
    page.mouse.move(200, 200)
    page.mouse.wheel(0, -400)
    wait_for(lambda: not is_in_sight(page, last))
    page.evaluate(GROW)
    assert not is_in_sight(page, page.get_by_text("one more line"))
    # Who sends a message wants to see its answer.
    ask(page, "And now?", "Send")
    wait_for(lambda: is_in_sight(page, page.locator(".output .state").last))
