"""A client of a running Prefect server."""

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
        """Run the command ``prefect`` against this server."""
        return subprocess.run(
            [PREFECT, "--no-prompt", *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def post(self, path: str, **body: Any) -> Any:
        """POST to the API."""
        response = httpx.post(f"{self.api}{path}", json=body, timeout=30)
        response.raise_for_status()
        return response.json()

    def get(self, path: str) -> Any:
        """GET from the API."""
        response = httpx.get(f"{self.api}{path}", timeout=30)
        response.raise_for_status()
        return response.json()

    def run(self, deployment: str, **parameters: Any) -> str:
        """Schedule a run of a deployment for now, and return its id."""
        deployment_id = self.get(f"/deployments/name/{deployment}")["id"]
        path = f"/deployments/{deployment_id}/create_flow_run"
        return str(self.post(path, parameters=parameters)["id"])

    def state(self, run: str) -> str:
        """Return the type of a flow run's state."""
        return str(self.get(f"/flow_runs/{run}")["state_type"])


def wait_for(condition: Callable[[], Any], timeout_s: float) -> Any:
    """Poll until the result is true, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        time.sleep(0.2)
    return result
