"""Streams of server-sent events, however a server cuts them, and what is no such stream."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from serve.engines.http_stream import StreamError, stream_events

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
EVENTS = b': comment\r\n\r\ndata: {"n": 1, "error": null}\r\n\r\ndata: {"n": 2}\n\ndata: [DONE]\n\n'


def chunks(parts: Sequence[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part)


async def _post(answer: bytes) -> tuple[bytes, list[dict[str, Any]]]:
    received = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.readuntil(b"}"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            stream = stream_events(reader, writer, "/path", {"text": "mill"}, host="host")
            events = [event async for event in stream]
            return await received, events
        finally:
            writer.close()


def post(answer: bytes) -> tuple[bytes, list[dict[str, Any]]]:
    """Return the request that a server got, and the events that were read of its answer."""
    return asyncio.run(_post(answer))


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(EVENTS)])
def test_events_are_the_same_however_they_are_cut_into_chunks(size: int) -> None:
    parts = [EVENTS[start : start + size] for start in range(0, len(EVENTS), size)]
    request, events = post(HEAD + chunks(parts) + END)
    assert events == [{"n": 1, "error": None}, {"n": 2}]
    head, body = request.split(b"\r\n\r\n")
    assert head.startswith(b"POST /path HTTP/1.1\r\nHost: host\r\n")
    assert orjson.loads(body) == {"text": "mill"}


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "the mill stands still", "code": 500}}',
        b'data: {"error": "the mill stands still"}',
        b'error: {"message": "the mill stands still"}',
    ],
    ids=["OpenAI", "text", "llama.cpp"],
)
def test_an_event_that_is_an_error_is_raised_with_what_it_says(event: bytes) -> None:
    with pytest.raises(StreamError, match="the mill stands still"):
        post(HEAD + chunks([b'data: {"n": 1}\n\n', event + b"\n\n"]) + END)


def test_a_refusal_is_raised_with_its_status_and_text() -> None:
    with pytest.raises(StreamError, match=r"503.*no mill"):
        post(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 7\r\n\r\nno mill")


def test_a_stream_without_its_last_chunk_is_incomplete() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        post(HEAD + chunks([EVENTS]))
