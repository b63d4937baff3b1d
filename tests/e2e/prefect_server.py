"""A running Prefect server as tests talk to it."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).parent / "prefect")


@dataclass(frozen=True)
class Prefect:
    """A running server."""

    api: str
    env: dict[str, str]
    home: Path

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The prefect command against this server."""
        return subprocess.run(
            [PREFECT, "--no-prompt", *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def ask(self, path: str, **body: Any) -> Any:
        """POST to the API."""
        answer = httpx.post(f"{self.api}{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def get(self, path: str) -> Any:
        """GET from the API."""
        answer = httpx.get(f"{self.api}{path}", timeout=30)
        answer.raise_for_status()
        return answer.json()

    def run(self, deployment: str, **parameters: Any) -> str:
        """Schedule a run of a deployment for now; its id."""
        number = self.get(f"/deployments/name/{deployment}")["id"]
        made = self.ask(f"/deployments/{number}/create_flow_run", parameters=parameters)
        return str(made["id"])

    def state(self, run: str) -> str:
        """The type of a flow run's state."""
        return str(self.get(f"/flow_runs/{run}")["state_type"])


def wait_for(look: Callable[[], Any], seconds: float) -> Any:
    """What a look gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.2)
    return found
