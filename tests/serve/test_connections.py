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
from serve.api.connection import Connection
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


def connect(served: Served, data: bytes) -> socket.socket:
    """Send something on a new connection, whose client keeps little of what it does not read."""
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    connection.settimeout(WAIT_TIMEOUT_S)
    connection.connect((host, int(port)))
    connection.sendall(data)
    return connection


def request(content: bytes, size: int, *headers: str) -> bytes:
    """Return the beginning of a request, whose body has ``size`` bytes."""
    lines = [
        f"POST {COMPLETIONS} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {size}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def is_open(served: Served, connection: socket.socket) -> bool:
    """Return whether the server has a connection to this end."""
    connections = list(served.server.server_state.connections)
    return connection.getsockname() in [item.client for item in connections]  # type: ignore[union-attr]


def logged_errors(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str | None]]:
    """Return status and error of each request in the log."""
    lines = [getattr(record, JSON_FIELDS, None) for record in caplog.records]
    return [(line["status"], line["error"]) for line in lines if line]


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_a_body_that_does_not_come_is_not_waited_for(folder: Path) -> None:
    hub = Hub([source("parrot", folder)], starter({"parrot": Parrot()}))
    with (
        serving(create_app(hub, Limits(timeout_s=0.3))) as served,
        connect(served, request(b'{"prompt": ', 100)) as connection,
    ):
        answer = read_all(connection)  # to its end: the connection is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"deadline_exceeded" in answer


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_does_not_read_is_not_waited_for(
    served: Served, parrot: Parrot, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    caplog.set_level(logging.INFO, "serve.api.gate")
    name = 'gristmill_requests_total{route="/v1/completions",status="499"}'
    before = served.metric(name)
    # Some 300 kB.
    body = {"prompt": "x" * 100, "max_tokens": CONTEXT - 100, "n": 16, "logprobs": 2, "echo": True}
    body["stream"] = stream
    content = json.dumps(body).encode()
    with connect(served, request(content, len(content))) as connection:
        wait_for(lambda: served.metric(name) == before + 1)
        wait_for(lambda: not is_open(served, connection))
        assert parrot.running == 0
        assert served.metric("gristmill_requests_in_progress") == 0
    assert served.post(COMPLETIONS, prompt="x", max_tokens=1)["choices"]
    assert (499, "client_stalled") in logged_errors(caplog)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("header", ["Connection: keep-alive", "Connection: close"])
def test_the_end_of_an_answer_that_nobody_reads_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    monkeypatch.setattr(Connection, "timeout_s", 0.3)
    name = 'gristmill_requests_total{route="/v1/completions",status="200"}'
    before = served.metric(name)
    # Some 40 kB: more than the kernel takes, less than the server waits with.
    body = {"prompt": "x" * 100, "max_tokens": CONTEXT - 100, "n": 2, "logprobs": 2, "echo": True}
    content = json.dumps(body).encode()
    with connect(served, request(content, len(content), header)) as connection:
        wait_for(lambda: served.metric(name) == before + 1)
        wait_for(lambda: not is_open(served, connection))


WHOLE = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
REFUSED = request(b"x", 100_000)  # before its body is read


@pytest.mark.parametrize(
    ("before", "rest"),
    [(b"", b""), (b"", WHOLE[:-2]), (WHOLE, b"\r\n"), (WHOLE, WHOLE[:5]), (REFUSED, b"x")],
    ids=["nothing", "part", "line", "second", "refused"],
)
def test_a_head_that_does_not_come_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, before: bytes, rest: bytes
) -> None:
    monkeypatch.setattr(Connection, "timeout_s", 0.3)
    with connect(served, before) as connection:
        if before:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 ")
        connection.sendall(rest)
        read_all(connection)  # to its end: the connection is closed


def test_the_log_has_the_cause_of_each_error(
    served: Served, parrot: Parrot, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(**change: Any) -> None:
        body = {"prompt": "secret", "max_tokens": 4, **change}
        served.client.post(COMPLETIONS, json=body)

    caplog.set_level(logging.INFO, "serve.api.gate")
    ask()
    ask(suffix="secret")
    ask(secret=1)
    ask(stream_options={"secret": 1})
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
        (400, "unknown_field"),
        (400, "unknown_field"),
        (400, "unknown_field: stream_options"),
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
    wait_for(lambda: len(logged_errors(caplog)) >= len(expected))
    assert logged_errors(caplog) == expected
    lines = [json.dumps(getattr(record, JSON_FIELDS, None)) for record in caplog.records]
    assert "secret" not in caplog.text + "".join(lines)


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
