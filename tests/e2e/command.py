"""Run the command line as a user does: in a separate process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

GRISTMILL = Path(sys.executable).parent / "gristmill"


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
    """Return an environment with a private Prefect home, isolated from other tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **kept,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **more,
    }


def gristmill(
    home: Path, *arguments: str, timeout: float = 300, env: Mapping[str, str] | None = None
) -> CommandResult:
    """Run ``gristmill`` and wait for it."""
    process = subprocess.run(
        [str(GRISTMILL), *arguments],
        env=environment(home, **(env or {})),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return CommandResult(process.returncode, process.stdout, process.stderr)


def reset_sigint() -> None:
    """Let Ctrl-C interrupt a child: processes in the background inherit that it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(
    home: Path, *arguments: str, stderr: int | IO[bytes] = subprocess.DEVNULL, **env: str
) -> "subprocess.Popen[bytes]":
    """Start ``gristmill`` in the background, as the leader of its own process group."""
    return subprocess.Popen(
        [str(GRISTMILL), *arguments],
        env=environment(home, **env),
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=reset_sigint,  # noqa: PLW1509 - a single call, safe between fork and exec
    )
