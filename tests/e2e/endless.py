"""A run that trains for longer than any test, to be stopped, and what is left of it."""

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from flows import local_server
from tests.caches import make_cache
from tests.e2e.command import gristmill, start, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.train_entry import train_entry

TRAINER, SERVER = "lm.train.worker", local_server.__file__


def endless(name: str) -> dict[str, Any]:
    """Return a training run that uses all cores for longer than any test."""
    return train_entry(
        precision="fp32",
        name=name,
        num_layers=1,
        hidden_size=32,
        num_heads=2,
        context_length=64,
        train_tokens=500_000_000,
        num_processes=os.cpu_count() or 1,
        global_batch_size=os.cpu_count() or 1,
        checkpoint_interval=20,
    )


def find(processes: list[psutil.Process], word: str) -> list[psutil.Process]:
    """Return the processes whose command contains a word."""
    return [process for process in processes if word in command_of(process)]


def command_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process; empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@dataclass(frozen=True)
class EndlessRun:
    """The recipe of two such models, and the folders that its runs use."""

    path: Path
    home: Path
    storage: Path
    cache: Path
    temporary: Path

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of its runs."""
        return {"GRISTMILL_CACHE": str(self.cache), "TMPDIR": str(self.temporary)}

    @classmethod
    def in_folder(cls, folder: Path) -> "EndlessRun":
        """Write the recipe into a folder."""
        home, storage, cache, temporary = (
            folder / name for name in ("home", "data", "cache", "tmp")
        )
        make_cache(cache)
        temporary.mkdir()
        value = recipe(storage, mixed(folder / "in"), train=[endless("one"), endless("two")])
        path = write_recipe(folder / "r.yaml", value)
        return cls(path, home, storage, cache, temporary)

    def stop_with(self, number: signal.Signals, *, whole_group: bool) -> None:
        """Start it, stop it with a signal while it trains, and check what it leaves."""
        err = self.temporary.with_name("err")
        with (
            err.open("wb") as sink,
            start(self.home, "run", str(self.path), env=self.env, stderr=sink) as run,
        ):
            wait_for(lambda: find(run.members(), TRAINER) and self.checkpoint_folders(), run)
            (os.killpg if whole_group else os.kill)(run.pid, number)
            assert run.wait(WAIT_TIMEOUT_S) != 0
            wait_for(lambda: not run.members())
        messages = err.read_text()
        assert "Traceback" not in messages
        if number != signal.SIGKILL:
            assert messages.count("error: ") == 1
            last = max((self.storage / "runs" / "small").glob("*.json"))
            assert json.loads(last.read_text())["state"] == "cancelled"

    def checkpoint_folders(self) -> list[Path]:
        """Return the folders of the models whose training has started."""
        return list(self.cache.glob("train/*/checkpoints"))

    def check_resumable(self) -> None:
        """Check that only the first model was started, and that a run reuses what is committed."""
        assert len(self.checkpoint_folders()) == 1, "the second model must not start"
        again = gristmill(self.home, "run", str(self.path), "--until", "tokenize", "--json")
        assert again.code == 0
        assert all(stage["cached"] for stage in again.value["stages"])
