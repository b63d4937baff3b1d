"""The command line as a user runs it: a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

GRISTMILL = Path(sys.executable).parent / "gristmill"


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> dict[str, Any]:
        """Its JSON output."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def write_recipe(path: Path, recipe: Mapping[str, Any]) -> Path:
    """A recipe as a file."""
    path.write_text(yaml.safe_dump(dict(recipe), sort_keys=False))
    return path


def environment(home: Path, **more: str) -> dict[str, str]:
    """A private Prefect home, so that tests neither see nor leave anything elsewhere."""
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
) -> Ran:
    """Run ``gristmill`` to its end."""
    done = subprocess.run(
        [str(GRISTMILL), *arguments],
        env=environment(home, **(env or {})),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def interruptible() -> None:
    """Ctrl-C reaches a child also where the tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(home: Path, *arguments: str, **env: str) -> "subprocess.Popen[bytes]":
    """Start ``gristmill`` and leave it running, as the leader of its own process group."""
    return subprocess.Popen(
        [str(GRISTMILL), *arguments],
        env=environment(home, **env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=interruptible,  # noqa: PLW1509 - a single call, safe between fork and exec
    )
