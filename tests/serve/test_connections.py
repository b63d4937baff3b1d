"""Clients that are slow or do not read are not waited for, and the log says the cause of each error."""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.log_format import JSON_FIELDS
from serve.api.app import create_app
from serve.api.limits import Limits
from serve.hub import Engines, Hub
from serve.models import ServedModel
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.serve.served import CONTEXT, Parrot, Served, model_folder, serving, source, starter

COMPLETIONS = "/v1/completions"
KERNEL_BYTES = 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "parrot")


@pytest.fixture(scope="module")
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture(scope="module")
def served(folder: Path, parrot: Parrot) -> Iterator[Served]:
    hub = Hub([source("parrot", folder, 3)], starter({"parrot": parrot}))
    limits = Limits(max_body=20_000, send_timeout_s=0.5)
    with serving(create_app(hub, limits)) as running:
        # Connections inherit how much the kernel takes of an answer before its client reads.
        listening = running.server.servers[0].sockets[0]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        yield running


def connect(served: Served, content: bytes, size: int) -> socket.socket:
    """Send the beginning of a request, whose body has ``size`` bytes."""
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    connection.settimeout(WAIT_TIMEOUT_S)
    connection.connect((host, int(port)))
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode() + content)
    return connection


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_a_body_that_does_not_come_is_not_waited_for(folder: Path) -> None:
    hub = Hub([source("parrot", folder)], starter({"parrot": Parrot()}))
    with (
        serving(create_app(hub, Limits(timeout_s=0.3))) as served,
        connect(served, b'{"prompt": ', 100) as connection,
    ):
        answer = read_all(connection)  # to its end: the connection is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"deadline_exceeded" in answer


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_does_not_read_is_not_waited_for(
    served: Served, parrot: Parrot, stream: bool
) -> None:
    name = 'gristmill_requests_total{route="/v1/completions",status="499"}'
    before = served.metric(name)
    # Some 300 kB.
    body = {"prompt": "x" * 100, "max_tokens": CONTEXT - 100, "n": 16, "logprobs": 2, "echo": True}
    body["stream"] = stream
    content = json.dumps(body).encode()
    with connect(served, content, len(content)):
        wait_for(lambda: served.metric(name) == before + 1)
        assert parrot.running == 0
        assert served.metric("gristmill_requests_in_progress") == 0
    assert served.post(COMPLETIONS, prompt="x", max_tokens=1)["choices"]


def test_the_log_has_the_cause_of_each_error(
    served: Served, parrot: Parrot, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(**change: Any) -> None:
        body = {"prompt": "secret", "max_tokens": 4, **change}
        served.client.post(COMPLETIONS, json=body)

    def logged() -> list[tuple[int, str | None]]:
        lines = [getattr(record, JSON_FIELDS, None) for record in caplog.records]
        return [(line["status"], line["error"]) for line in lines if line]

    caplog.set_level(logging.INFO, "serve.api.gate")
    ask()
    ask(suffix="secret")
    ask(model="secret")
    ask(max_tokens="secret")
    ask(max_tokens=5000)
    ask(prompt="x" * 20_000)
    headers = {"content-type": "application/json"}
    served.client.post(COMPLETIONS, content=b"{", headers=headers)
    served.client.get("/nowhere")
    served.client.get(COMPLETIONS)
    for token in (0, 2):
        parrot.fail_at = token
        ask(stream=bool(token))
    parrot.fail_at = None
    expected = [
        (200, None),
        (400, "unknown_field: suffix"),
        (404, "model_not_found: model"),
        (400, "invalid_value: max_tokens"),
        (400, "context_length_exceeded: max_tokens"),
        (413, "body_too_large"),
        (400, "invalid_json"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (503, "engine_failed"),
        (200, "engine_failed"),
    ]
    wait_for(lambda: len(logged()) >= len(expected))
    assert logged() == expected
    assert "secret" not in caplog.text


def test_metrics_are_of_each_engine_with_the_version(folder: Path) -> None:
    class Other(Parrot):
        name = "other"

    both, alone = Parrot(slots=3), Other(slots=5)

    async def start(model: ServedModel) -> Engines:
        engines: Any = {"both": Engines(both, alone), "alone": Engines(None, alone)}  # type: ignore[arg-type]
        return engines[model.name]  # type: ignore[no-any-return]

    hub = Hub([source("both", folder, 3), source("alone", folder)], start)
    with serving(create_app(hub, Limits())) as served:
        for model, engine, slots in (
            ("both", "parrot", 3),
            ("both", "other", 5),
            ("alone", "other", 5),
        ):
            labels = f'engine="{engine}",model="{model}"'
            assert served.metric(f"gristmill_slots{{{labels}}}") == slots
            version = "3" if model == "both" else ""
            name = f'gristmill_model_info{{{labels},version="{version}"}}'
            assert served.metric(name) == 1
        models = served.client.get("/v1/models").json()["data"]
        assert [item["gristmill"]["engine"] for item in models] == ["parrot", "other"]
