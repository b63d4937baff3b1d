"""Run the command line as a user does: in a separate process."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import yaml
from click.testing import CliRunner

from cli.main import main
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import ROOT, TreeProcess, process_tree

GRISTMILL = Path(sys.executable).parent / "gristmill"
PREFECT = str(Path(sys.executable).parent / "prefect")
DATABASE = "prefect.db"

# What `gristmill run` does with the Prefect server of this machine; it ends when its standard input does.
SERVER_CLIENT = """
import sys
import cli.main
cli.main.main.callback()
from prefect.settings import get_current_settings
from flows.prefect_server import local_server_if_needed
server = local_server_if_needed()
server.use()
print(get_current_settings().api.url, flush=True)
sys.stdin.read()
server.keep(float(sys.argv[1]))
"""


@dataclass(frozen=True)
class CommandResult:
    """Exit status and output of a command."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> dict[str, Any]:
        """Its JSON output."""
        value: dict[str, Any] = json.loads(self.out)
        return value


def write_recipe(path: Path, recipe: Mapping[str, Any]) -> Path:
    """Write a recipe to a file."""
    path.write_text(yaml.safe_dump(dict(recipe), sort_keys=False))
    return path


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with a private Prefect home, isolated from other tests.

    A new home gets an empty database with all tables: Prefect's migrations take ten seconds of CPU.
    """
    home.mkdir(parents=True, exist_ok=True)
    if not (home / DATABASE).exists():
        shutil.copy(_empty_database(), home / DATABASE)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **kept,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **more,
    }


@cache
def _empty_database() -> Path:
    """Let Prefect make a database of this version, once for all tests on this machine."""
    folder = ROOT / ".pytest_cache" / "d" / f"prefect-{version('prefect')}"
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "made"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            (folder / DATABASE).unlink(missing_ok=True)  # of one that was killed
            env = {**os.environ, "PREFECT_HOME": str(folder)}
            command = [PREFECT, "server", "database", "upgrade", "-y"]
            subprocess.run(command, env=env, capture_output=True, check=True)
            made.touch()
    return folder / DATABASE


def run_to_end(
    command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
) -> CommandResult:
    """Run a command to its end; it must leave no process behind."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with process_tree(command, env, cwd=cwd, **pipes) as process:
        out, err = process.communicate(timeout=WAIT_TIMEOUT_S)
        wait_for(lambda: not process.members())
    return CommandResult(process.returncode, out.decode(), err.decode())


def gristmill(home: Path, *arguments: str, env: Mapping[str, str] | None = None) -> CommandResult:
    """Run ``gristmill`` and wait for it."""
    return run_to_end([str(GRISTMILL), *arguments], environment(home, **(env or {})))


def invoke(home: Path, *arguments: str, env: Mapping[str, str] | None = None) -> CommandResult:
    """Run ``gristmill`` in this process, for commands that start none: imports take two seconds of CPU.

    Raises:
        Exception: what the command did not turn into a message.
    """
    result = CliRunner().invoke(main, arguments, env={"PREFECT_HOME": str(home), **(env or {})})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return CommandResult(result.exit_code, result.stdout, result.stderr)


@contextmanager
def start(
    home: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[TreeProcess]:
    """Run ``gristmill`` in the background while the block lasts."""
    command = [str(GRISTMILL), *arguments]
    outputs: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": stderr}
    with process_tree(command, environment(home, **(env or {})), **outputs) as process:
        yield process


@contextmanager
def server_client(home: Path, keep_s: float, **env: str) -> Iterator[TreeProcess]:
    """Run a client of the Prefect server that runs of this home share; it prints the URL of the API."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", SERVER_CLIENT, str(keep_s)]
    with process_tree(command, environment(home, **env), **pipes) as process:
        yield process
