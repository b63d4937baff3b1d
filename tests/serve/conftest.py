"""Fixtures of the tests of serving."""

import asyncio
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lm.models.single_thread import single_thread
from serve.scratch import ScratchFolder
from tests.serve.released import Releases, release


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
