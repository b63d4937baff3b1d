"""A Prefect server of a test's own, and a client of it."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.command import PREFECT, CommandResult, environment, run_to_end
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import ROOT
from tests.servers import free_port, server

# Without it each request reads the certificates of all authorities, which takes 50 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Prefect:
    """A running server."""

    api: str
    env: dict[str, str]
    home: Path

    def command(self, *arguments: str) -> CommandResult:
        """Run the command ``prefect`` against this server."""
        return run_to_end([PREFECT, "--no-prompt", *arguments], self.env, ROOT)

    def post(self, path: str, **body: Any) -> Any:
        """POST to the API."""
        return self._request("POST", path, body)

    def get(self, path: str) -> Any:
        """GET from the API."""
        return self._request("GET", path)

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request again while the server is busy, as Prefect's own client does.

        A server on SQLite answers 503, and has done nothing, when another writer has the lock.
        """

        user, _, password = self.env.get("PREFECT_API_AUTH_STRING", "").partition(":")
        auth = (user, password) if user else None

        def send() -> httpx.Response | None:
            url = f"{self.api}{path}"
            settings: dict[str, Any] = {"timeout": WAIT_TIMEOUT_S, "verify": NO_TLS}
            answer = httpx.request(method, url, json=body, auth=auth, **settings)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        response = wait_for(send)
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


@contextmanager
def prefect_server(folder: Path) -> Iterator[Prefect]:
    """Run a server on a free port, with its home and its log in a folder."""
    port, home = free_port(), folder / "home"
    api = f"http://127.0.0.1:{port}/api"
    env = environment(home, PREFECT_API_URL=api)
    command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server_env = {**env, "PREFECT_API_URL": "", "PREFECT_SERVER_UI_API_URL": api}
    with server(command, folder / "server.log", f"{api}/health", server_env):
        yield Prefect(api, env, home)
