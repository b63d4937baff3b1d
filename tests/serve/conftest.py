"""Fixtures of the tests of serving."""

import asyncio
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lm.models.single_thread import single_thread
from serve.scratch import ScratchFolder
from tests.browser import open_browser, open_page
from tests.serve.released import Releases, release
from tests.serve.served import Served


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """Return the released folder of a model by its name; each is exported once."""

    @cache
    def folder(name: str) -> Path:
        return release(name, tmp_path_factory.mktemp(name) / "hf")

    return folder


@pytest.fixture
def foreign_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that has a file with the name of a package of ours."""
    (tmp_path / "serve.py").write_text("raise SystemExit('this is another program')")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Let torch use one thread, as the process of an engine does: two are far slower on a busy machine."""
    with single_thread():
        yield


@pytest.fixture(autouse=True)
def no_event_loop_deletes_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a folder is deleted where requests are answered: it may take long."""
    delete = ScratchFolder.delete

    def delete_beside_a_loop(scratch: ScratchFolder) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        delete(scratch)

    monkeypatch.setattr(ScratchFolder, "delete", delete_beside_a_loop)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as running:
        yield running


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    """The page, which must log nothing and request nothing from elsewhere."""
    opened = open_page(browser)
    messages: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(served.url)
    opened.locator("#model option").first.wait_for(state="attached")
    opened.get_by_label("Temperature").fill("0")
    yield opened
    # A status that is no success is logged by the browser itself.
    assert [text for text in messages if "status of 4" not in text] == []
    assert [url for url in requests if not url.startswith((served.url, "data:"))] == []
    opened.context.close()
