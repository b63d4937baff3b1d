"""Limits hold, clients that go free their slots, and a model takes the place of another without a failed request."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.store.storage import Storage
from serve.api.app import create_app
from serve.api.limits import Limits
from serve.hub import Engines, Hub, ModelSource, Target
from serve.models import ServedModel
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.serve.served import Parrot, Served, model_folder, serving, source, starter

COMPLETIONS = "/v1/completions"
LONG = {"prompt": "x", "max_tokens": 190, "temperature": 0}  # at 10 ms per token two seconds


@dataclass
class Slow:
    served: Served
    parrot: Parrot


@contextmanager
def slow(folder: Path, limits: Limits, slots: int = 4, **options: Any) -> Iterator[Slow]:
    """An endpoint whose model takes 10 ms for a token."""
    parrot = Parrot("y", slots=slots, step_s=0.01)
    hub = Hub([source("slow", model_folder(folder / "slow"))], starter({"slow": parrot}))
    with serving(create_app(hub, limits, **options)) as served:
        yield Slow(served, parrot)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    with slow(tmp_path_factory.mktemp("models"), Limits(timeout_s=WAIT_TIMEOUT_S)) as running:
        yield running


def send(served: Served, body: dict[str, Any]) -> socket.socket:
    """Send a request and return its connection."""
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=WAIT_TIMEOUT_S)
    content = json.dumps(body).encode()
    head = (
        f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_goes_frees_its_slot(endpoint: Slow, stream: bool, n: int) -> None:
    parrot = endpoint.parrot
    connection = send(endpoint.served, {**LONG, "stream": stream, "n": n})
    wait_for(lambda: parrot.running == n)
    if stream:
        assert connection.recv(1)
    connection.close()
    wait_for(lambda: parrot.running == 0)
    generated = parrot.generated
    metric = 'gristmill_requests_total{route="/v1/completions",status="499"}'
    wait_for(lambda: endpoint.served.metric(metric) > 0)
    assert endpoint.served.metric("gristmill_requests_in_progress") == 0
    assert parrot.generated == generated
    assert generated < 4 * 190  # it was ended, and did not end by itself


def test_requests_beyond_the_queue_are_told_when_to_come_back(tmp_path: Path) -> None:
    limits = Limits(slots=1, max_queue=1)
    with slow(tmp_path, limits, slots=1) as running:
        connections = [send(running.served, LONG) for _ in range(2)]
        name = "gristmill_requests_in_progress"
        wait_for(lambda: running.served.metric(name) == 2)
        response = running.served.post(COMPLETIONS, **LONG)
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["type"] == "rate_limit_error"
        for connection in connections:
            connection.close()
        wait_for(lambda: running.served.metric(name) == 0)
        assert running.served.post(COMPLETIONS, prompt="x", max_tokens=1)["choices"]
        assert running.parrot.max_running == 1


def test_a_request_ends_at_its_deadline(tmp_path: Path) -> None:
    with slow(tmp_path, Limits(timeout_s=0.2)) as running:
        response = running.served.post(COMPLETIONS, **LONG)
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        *events, error = running.served.events(COMPLETIONS, **LONG)
        assert events
        assert error["error"]["code"] == "deadline_exceeded"
        wait_for(lambda: running.parrot.running == 0)


def test_keys_are_asked_for_except_by_probes_and_the_page(tmp_path: Path) -> None:
    with slow(tmp_path, Limits(), api_keys=["first", "sécond"]) as running:
        client = running.served.client
        for key in (None, "third"):
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            for path in ("/v1/models", "/metrics", "/openapi.json"):
                response = client.get(path, headers=headers)
                assert response.status_code == 401
                assert response.json()["error"]["type"] == "authentication_error"
        for key in ("first", "sécond"):
            value = {b"Authorization": f"Bearer {key}".encode()}
            assert client.get("/v1/models", headers=value).status_code == 200
        for path in ("/health", "/ready", "/"):
            assert client.get(path).status_code == 200


def test_without_keys_only_names_of_this_machine_reach_it(endpoint: Slow, tmp_path: Path) -> None:
    client = endpoint.served.client
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8080", "[::1]"):
        assert client.get("/v1/models", headers={"Host": host}).status_code == 200
    for host in ("rebound.example", "127.0.0.1.example:80", "localhost.example", "10.0.0.1"):
        response = client.get("/v1/models", headers={"Host": host})
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "wrong_host"
    with slow(tmp_path, Limits(), api_keys=["key"]) as running:
        headers = {"Host": "models.example", "Authorization": "Bearer key"}
        assert running.served.client.get("/v1/models", headers=headers).status_code == 200


def test_readiness_is_that_of_the_engines(tmp_path: Path) -> None:
    with slow(tmp_path, Limits()) as running:
        for is_closed, status in ((False, 200), (True, 503)):
            running.parrot.closed = is_closed
            response = running.served.client.get("/ready")
            assert (response.status_code, response.json()) == (status, {"ready": not is_closed})


def test_the_page_runs_only_its_own_scripts(endpoint: Slow) -> None:
    for path in ("/", "/page/app.js"):
        response = endpoint.served.client.get(path)
        assert response.status_code == 200
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
    assert endpoint.served.client.get("/page/../hub.py").status_code == 404
    assert endpoint.served.client.get("/page/%2e%2e/hub.py").status_code == 404


def test_running_requests_are_finished_when_the_server_stops(tmp_path: Path) -> None:
    with slow(tmp_path, Limits()) as running, ThreadPoolExecutor(1) as pool:
        body = {**LONG, "max_tokens": 50}
        answer = pool.submit(running.served.events, COMPLETIONS, **body)
        wait_for(lambda: running.parrot.running == 1)
        running.served.server.should_exit = True
        events = answer.result(WAIT_TIMEOUT_S)
        assert events[-1] == "[DONE]"
        assert events[-2]["choices"][0]["finish_reason"] == "length"


class Moving:
    """An alias, and the models that it has named."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = 1
        self.parrots: dict[int, Parrot] = {}

    def find(self) -> Target:
        version = self.version
        folder = self.folder / str(version)
        if not folder.exists() and version < 9:
            model_folder(folder)
        return Target(f"version {version}", Storage(str(folder)), version, "champion")

    async def start(self, model: ServedModel) -> Engines:
        parrot = Parrot(str(model.folder.name), step_s=0.001)
        self.parrots[int(model.folder.name)] = parrot
        return Engines(parrot, None)


def test_an_alias_moves_without_a_failed_request(tmp_path: Path) -> None:
    moving = Moving(tmp_path)
    hub = Hub([ModelSource("model", moving.find)], moving.start)
    app = create_app(hub, Limits(), poll_interval_s=0.05)
    stop = threading.Event()

    answers: list[tuple[int, str]] = []

    def ask(served: Served) -> None:
        with httpx.Client(base_url=served.url, timeout=WAIT_TIMEOUT_S) as client:
            while not stop.is_set():
                body = {"prompt": "x", "max_tokens": 40, "temperature": 0}
                response = client.post(COMPLETIONS, json=body)
                answers.append((response.status_code, response.json()["choices"][0]["text"]))

    def version(served: Served) -> int:
        return int(served.client.get("/v1/models").json()["data"][0]["gristmill"]["version"])

    with serving(app) as served, ThreadPoolExecutor(4) as pool:
        # A long one keeps the first version busy while the second one answers already.
        long = pool.submit(served.events, COMPLETIONS, **LONG)
        running = [pool.submit(ask, served) for _ in range(3)]
        wait_for(lambda: len(answers) > 2)
        moving.version = 2
        wait_for(lambda: version(served) == 2)
        wait_for(lambda: moving.parrots[2].generated > 100)
        moving.version = 9  # which cannot be loaded
        generated = moving.parrots[2].generated
        wait_for(lambda: moving.parrots[2].generated > generated + 200)
        stop.set()
        for each in running:
            each.result(WAIT_TIMEOUT_S)
        assert {status for status, _ in answers} == {200}
        # Each answer is one model's from its beginning to its end.
        assert {text for _, text in answers} == {"1" * 40, "2" * 40}
        chunks = [event["choices"][0]["text"] for event in long.result(WAIT_TIMEOUT_S)[:-1]]
        assert "".join(chunks) == "1" * 190
        wait_for(lambda: moving.parrots[1].closed)
        assert not moving.parrots[2].closed
        assert version(served) == 2
        assert served.metric('gristmill_model_swaps_total{model="model"}') == 1


class Words:
    """A finder that knows how long a text is; it fails from the length ``fail_at`` on."""

    def __init__(self, fail_at: int = 1000) -> None:
        self.texts: list[str] = []
        self.fail_at = fail_at

    def track(self) -> "Words":
        return self

    def update(self, text: str, *, final: bool = False) -> dict[str, Any] | None:
        self.texts.append(text)
        if len(text) >= self.fail_at:
            raise OSError("the index is gone")
        return {"first": 0, "passages": [{"start": 0, "end": len(text)}]}


def test_sources_come_while_the_text_does_and_at_its_end(tmp_path: Path) -> None:
    words = Words()
    folder = model_folder(tmp_path / "slow")
    target = Target("slow", Storage(str(folder)), open_sources=lambda: words)
    hub = Hub([ModelSource("slow", lambda: target)], starter({"slow": Parrot("ä", step_s=0.01)}))
    with serving(create_app(hub, Limits())) as served:
        body = {"prompt": "x", "max_tokens": 100, "temperature": 0, "sources": True}
        choice = served.post(COMPLETIONS, **body)["choices"][0]
        assert words.texts == ["ä" * 50]
        assert choice["gristmill_sources"]["passages"] == [{"start": 0, "end": 50}]
        choices = [event["choices"][0] for event in served.events(COMPLETIONS, **body)[:-1]]
        found = [item["gristmill_sources"] for item in choices if "gristmill_sources" in item]
        assert len(found) > 2
        assert found[-1] == choice["gristmill_sources"]
        assert served.client.get("/v1/models").json()["data"][0]["gristmill"]["sources"] is True
        chat = {**body, "messages": [{"role": "user", "content": "x"}]}
        del chat["prompt"]
        answer = served.post("/v1/chat/completions", **chat)["choices"][0]
        assert answer["gristmill_sources"]["first"] == 0


def test_an_index_that_fails_costs_no_answer(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "slow")
    target = Target("slow", Storage(str(folder)), open_sources=lambda: Words(30))
    hub = Hub([ModelSource("slow", lambda: target)], starter({"slow": Parrot("y", step_s=0.01)}))
    with serving(create_app(hub, Limits())) as served:
        body = {"prompt": "x", "max_tokens": 100, "temperature": 0, "sources": True}
        choice = served.post(COMPLETIONS, **body)["choices"][0]
        assert choice["text"] == "y" * 100
        assert "index" in choice["gristmill_sources"]["error"]
        choices = [event["choices"][0] for event in served.events(COMPLETIONS, **body)[:-1]]
        assert "".join(item["text"] for item in choices) == "y" * 100
        found = [item["gristmill_sources"] for item in choices if "gristmill_sources" in item]
        assert ["error" in item for item in found].count(True) == 1
        assert found[-1] == choice["gristmill_sources"]


def test_without_an_index_a_request_for_sources_is_told_why(endpoint: Slow) -> None:
    body = {"prompt": "x", "max_tokens": 2, "sources": True}
    choice = endpoint.served.post(COMPLETIONS, **body)["choices"][0]
    assert choice["gristmill_sources"]["error"]
    assert choice["text"] == "yy"
