"""What a server leaves behind: nothing, whenever it is told to stop, and nothing of one that was killed."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from infra.store.storage import Storage
from serve.api.app import create_app
from serve.api.limits import Limits
from serve.api.run import bind, run
from serve.hub import Engines, Hub, ModelSource, Target
from serve.models import ServedModel
from serve.scratch import PREFIX, ScratchFolder, delete_abandoned
from tests.limits import wait_for
from tests.processes import process_tree
from tests.serve.command import GRISTMILL
from tests.serve.released import Releases
from tests.serve.served import Parrot, model_folder

SCRATCH = """
import sys
from serve.scratch import ScratchFolder
folder = ScratchFolder()
print(folder.path, flush=True)
sys.stdin.read()
"""

UNCANCELLABLE = """
import asyncio
from serve.api.run import bind, run

async def prepare():
    try:
        print("loading", flush=True)
        await asyncio.Event().wait()
    finally:
        print("cancelled", flush=True)
        await asyncio.Event().wait()

asyncio.run(run(None, bind("127.0.0.1", 0), 1, prepare=prepare, on_start=print))
"""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def remote_model(folder: Path, name: str) -> Target:
    """A model that has to be downloaded."""
    remote = Storage(f"memory://{name}")
    for path in model_folder(folder).iterdir():
        remote.upload(path, path.name)
    return Target(name, remote)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_models_load_ends_what_was_started(
    tmp_path: Path, scratch: Path, number: signal.Signals
) -> None:
    first = Parrot()
    downloaded: list[Path] = []

    async def start(model: ServedModel) -> Engines:
        downloaded.append(model.folder)
        if model.name == "first":
            return Engines(first, None)
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()
        raise AssertionError

    targets = {name: remote_model(tmp_path / name, name) for name in ("first", "second")}
    sources = [ModelSource(name, partial(targets.__getitem__, name)) for name in targets]
    hub = Hub(sources, start)

    def refuse() -> None:
        raise AssertionError

    with bind("127.0.0.1", 0) as bound:
        app = create_app(hub, Limits())
        running = run(app, bound, 1, prepare=hub.start, on_start=refuse)
        assert not asyncio.run(running)
    assert len(set(downloaded)) == 2
    assert first.closed
    assert not list(scratch.iterdir())


def test_a_download_that_is_stopped_leaves_no_file(tmp_path: Path, scratch: Path) -> None:
    tasks: list[asyncio.Task[None]] = []
    downloads: list[str] = []

    class Stopping(Storage):
        """A store from which a signal comes with the first file."""

        def download(self, name: str, path: Path) -> None:
            if not downloads:
                os.kill(os.getpid(), signal.SIGTERM)
                wait_for(tasks[0].cancelling)
            downloads.append(name)
            super().download(name, path)

    target = remote_model(tmp_path / "model", "stopped")
    target = Target("stopped", Stopping(target.folder.url))
    hub = Hub([ModelSource("model", lambda: target)], fail_to_start)

    async def prepare() -> None:
        tasks.append(asyncio.ensure_future(hub.start()))
        await tasks[0]

    with bind("127.0.0.1", 0) as bound:
        app = create_app(hub, Limits())
        assert not asyncio.run(run(app, bound, 1, prepare=prepare, on_start=lambda: None))
    assert downloads
    assert not list(scratch.iterdir())


def test_a_new_version_that_is_downloaded_when_the_server_stops_leaves_no_file(
    tmp_path: Path, scratch: Path
) -> None:
    watchers: list[asyncio.Task[None] | None] = []

    class Watched(Hub):
        """A hub whose watching task is known."""

        async def watch(self, interval_s: float) -> None:
            watchers.append(asyncio.current_task())
            await super().watch(interval_s)

    class Stopping(Storage):
        """A store from which a signal comes with each file."""

        def download(self, name: str, path: Path) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            assert watchers[0] is not None
            wait_for(watchers[0].cancelling)
            super().download(name, path)

    async def start(_model: ServedModel) -> Engines:
        return Engines(Parrot(), None)

    new = remote_model(tmp_path / "new", "new")
    targets = [
        Target("new", Stopping(new.folder.url)),
        Target("old", Storage(str(model_folder(tmp_path / "old")))),
    ]
    hub = Watched([ModelSource("model", targets.pop)], start)
    with bind("127.0.0.1", 0) as bound:
        app = create_app(hub, Limits(), poll_interval_s=0.01)
        assert asyncio.run(run(app, bound, 1, prepare=hub.start, on_start=lambda: None))
    assert targets == []
    assert not list(scratch.iterdir())


@pytest.mark.e2e
def test_a_second_signal_ends_at_once_what_cannot_be_cancelled() -> None:
    command = [sys.executable, "-c", UNCANCELLABLE]
    root = Path(__file__).parents[2]
    with process_tree(command, {**os.environ}, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loading\n"
        process.terminate()
        assert process.stdout.readline() == b"cancelled\n"
        process.terminate()
        assert process.wait() == -signal.SIGTERM


async def fail_to_start(_model: ServedModel) -> Engines:
    raise AssertionError


@pytest.mark.e2e
def test_folders_of_killed_servers_are_deleted_and_no_others(scratch: Path) -> None:
    command = [sys.executable, "-c", SCRATCH]
    env = {**os.environ, "TMPDIR": str(scratch)}
    with process_tree(
        command, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().decode().strip())
        (folder / "model.gguf").write_text("weights")
        others = {"other", f"{PREFIX}of-a-user"}
        for name in others:
            (scratch / name).mkdir()
        delete_abandoned()
        assert folder.is_dir()
        process.kill()
        process.wait()
        delete_abandoned()
        assert {path.name for path in scratch.iterdir()} == others


def test_a_scratch_folder_is_deleted_when_told_and_with_its_object(scratch: Path) -> None:
    folder, other = ScratchFolder(), ScratchFolder()
    delete_abandoned()
    assert folder.path != other.path
    assert folder.path.is_dir()
    assert other.path.is_dir()
    folder.delete()
    folder.delete()
    assert not folder.path.exists()
    del other
    assert not list(scratch.iterdir())


@pytest.mark.e2e
def test_the_command_stops_cleanly_while_a_model_loads(releases: Releases, tmp_path: Path) -> None:
    shutil.copytree(releases("llama"), tmp_path / "tiny")
    (tmp_path / "scratch").mkdir()
    env = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    command = [GRISTMILL, "serve", str(tmp_path / "tiny"), "--port", "0"]
    log = tmp_path / "log"
    with log.open("wb") as sink, process_tree(command, env, stderr=sink) as process:
        wait_for(lambda: list((tmp_path / "scratch").glob(f"{PREFIX}*")), process)
        process.terminate()
        assert process.wait() == 0, log.read_text()
        wait_for(lambda: not process.members())
    assert not list((tmp_path / "scratch").glob(f"{PREFIX}*"))
