"""A request over HTTP whose answer is a stream of server-sent events, without a library of HTTP.

The work of such a library for each chunk would compete with that of the process which generates the tokens.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import orjson

REFUSAL_BYTES = 4096  # of what a refusal says are kept


class StreamError(Exception):
    """The server refused the request, or its stream holds an error."""


async def stream_events(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    path: str,
    body: Mapping[str, Any],
    host: str,
) -> AsyncGenerator[dict[str, Any], None]:
    """Post JSON and yield the objects of the events of the answer, up to its end.

    The connection is used for this request only; the caller closes it.

    Args:
        reader: of the connection.
        writer: of the connection.
        path: of the route.
        body: of the request.
        host: as the request names it.

    Raises:
        StreamError: if the status is not 200, or an event is an error.
        OSError: if the connection fails.
        asyncio.IncompleteReadError: if the stream ends too early.
    """
    content = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    await writer.drain()
    status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1])
    if status != 200:
        message = (await reader.read(REFUSAL_BYTES)).decode(errors="replace")
        raise StreamError(f"status {status}: {message}")
    rest = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        *events, rest = rest.replace(b"\r\n", b"\n").split(b"\n\n")
        for event in events:
            data = read_event(event)
            if data is not None:
                yield data


def read_event(event: bytes) -> dict[str, Any] | None:
    """Return the object of a server-sent event; nothing if it has none, as the last one, ``[DONE]``.

    Raises:
        StreamError: if it is an error.
    """
    if event.startswith(b"error:"):  # as llama.cpp sends one
        raise StreamError(event[6:].decode(errors="replace").strip())
    if not event.startswith(b"data: {"):
        return None
    data: dict[str, Any] = orjson.loads(event[6:])
    error = data.get("error")
    if error is not None:
        raise StreamError(str(error.get("message", error) if isinstance(error, dict) else error))
    return data
