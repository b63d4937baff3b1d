"""Messages between the endpoint and the process of an engine: JSON with an array beside it, over a socket.

A frame is the length of its JSON and of its array, uint32 each, little-endian, and these two. The array, if it is
not empty, is float32 of the shape that the JSON's ``shape`` says.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from serve.engines.interface import Generation, Sampling, TokenScore, Vector

HEADER = struct.Struct("<II")
READ_BYTES = 1 << 16

Message = dict[str, Any]


def pack(message: Mapping[str, Any], array: Vector | None = None) -> bytes:
    """Return a frame."""
    if array is None:
        text, data = orjson.dumps(message), b""
    else:
        text = orjson.dumps({**message, "shape": array.shape})
        data = np.ascontiguousarray(array, "<f4").tobytes()
    return HEADER.pack(len(text), len(data)) + text + data


def _unpack(text: bytes, data: bytes) -> Message:
    message: Message = orjson.loads(text)
    if "shape" in message:
        message["array"] = np.frombuffer(data, "<f4").reshape(message["shape"])
    return message


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Return the next message; raises ``IncompleteReadError`` when the other side has ended."""
    lengths = HEADER.unpack(await reader.readexactly(HEADER.size))
    return _unpack(await reader.readexactly(lengths[0]), await reader.readexactly(lengths[1]))


class Connection:
    """The side of the process: messages as they have come, without waiting or with."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        self._socket, self._buffer = sock, bytearray()

    def send(self, message: Mapping[str, Any], array: Vector | None = None) -> None:
        """Send a message; waits while the other side does not read."""
        self._socket.sendall(pack(message, array))

    def receive(self, *, wait: bool) -> list[Message]:
        """Return all messages that have come; with ``wait`` at least one.

        Raises:
            EOFError: if the other side has ended.
        """
        messages = self._parse()
        while (wait and not messages) or select.select([self._socket], [], [], 0)[0]:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise EOFError
            self._buffer += data
            messages += self._parse()
        return messages

    def _parse(self) -> list[Message]:
        messages = []
        while len(self._buffer) >= HEADER.size:
            text, data = HEADER.unpack_from(self._buffer)
            end = HEADER.size + text + data
            if len(self._buffer) < end:
                break
            content = bytes(self._buffer[HEADER.size : end])
            messages.append(_unpack(content[:text], content[text:]))
            del self._buffer[:end]
        return messages


def encode_generation(generation: Generation) -> Message:
    """Return a generation as JSON values."""
    return {
        **{name: getattr(generation, name) for name in ("max_new_tokens", "logprobs", "num_top")},
        "prompt": generation.prompt,
        "stop_ids": list(generation.stop_ids),
        "sampling": asdict(generation.sampling),
    }


def decode_generation(values: Message) -> Generation:
    """Return what ``encode_generation`` encoded."""
    sampling = values["sampling"]
    bias = tuple((id_, value) for id_, value in sampling["logit_bias"])
    return Generation(
        **{name: values[name] for name in ("max_new_tokens", "logprobs", "num_top")},
        prompt=tuple(values["prompt"]),
        stop_ids=frozenset(values["stop_ids"]),
        sampling=Sampling(**{**sampling, "logit_bias": bias}),
    )


def encode_score(score: TokenScore) -> list[Any]:
    """Return a score as JSON values."""
    return [score.id, score.logprob, score.top]


def decode_score(values: list[Any]) -> TokenScore:
    """Return what ``encode_score`` encoded."""
    id_, logprob, top = values
    return TokenScore(id_, logprob, tuple((other, value) for other, value in top))
