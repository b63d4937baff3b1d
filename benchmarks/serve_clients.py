"""Clients of an OpenAI-compatible endpoint that measure it."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import psutil

from serve.engines.http_stream import StreamError, stream_events
from tests.serve.llama_slots import llama_cpp_client, read_slots

ROUTE = "/v1/completions"
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Endpoint:
    """A running server.

    Attributes:
        name: as it is printed.
        url: without ``/v1``.
        model: what requests name.
        pid: of its process, if that is to be measured.
        llama_cpp: the process of llama.cpp behind it, if there is one.
    """

    name: str
    url: str
    model: str
    pid: int | None = None
    llama_cpp: psutil.Process | None = None

    def cpu_s(self) -> float:
        """Return the CPU seconds of its processes so far."""
        if self.pid is None:
            return 0.0
        process = psutil.Process(self.pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return sum(each.user + each.system for each in times)


@dataclass(frozen=True)
class Answer:
    """A streamed completion.

    Attributes:
        tokens: that were generated, by the server's count.
        first_s: from the request to the first text, or to the end if there is none.
        seconds: from the request to the end.
    """

    text: str
    tokens: int
    first_s: float
    seconds: float


@dataclass(frozen=True)
class LoadResult:
    """Several clients at once.

    Attributes:
        rate: tokens per second of all together.
        first_s: of each request, ascending.
    """

    rate: float
    first_s: Sequence[float]

    def percentile(self, percent: int) -> float:
        """Return a percentile of the time to the first token, in seconds (nearest rank)."""
        rank = -(-percent * len(self.first_s) // 100)
        return self.first_s[max(1, rank) - 1]


def complete(endpoint: Endpoint, prompt: str, tokens: int) -> Answer:
    """Ask for one completion and wait for its end."""
    return asyncio.run(_stream(endpoint, prompt, tokens))


def load(endpoint: Endpoint, prompts: Sequence[str], tokens: int, clients: int) -> LoadResult:
    """Let clients ask one prompt after the other, until all prompts are answered."""

    async def run() -> LoadResult:
        left = list(reversed(prompts))
        answers: list[Answer] = []

        async def work() -> None:
            while left:
                answers.append(await _stream(endpoint, left.pop(), tokens))

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(clients)))
        seconds = time.perf_counter() - start
        first = sorted(answer.first_s for answer in answers)
        return LoadResult(sum(answer.tokens for answer in answers) / seconds, first)

    return asyncio.run(run())


def disconnect(endpoint: Endpoint, prompt: str, tokens: int) -> float:
    """Close the connection after some chunks; return the seconds until nothing is generated any more.

    The resolution is that of a request to the server, some milliseconds. What llama.cpp generates, it says itself.
    """
    with httpx.Client(base_url=endpoint.url, timeout=TIMEOUT_S) as client, ExitStack() as stack:
        llama = endpoint.llama_cpp and stack.enter_context(llama_cpp_client(endpoint.llama_cpp))

        def count_running() -> float:
            return _count_processing(llama) if llama else _read_running(client)

        body = _body(endpoint, prompt, tokens)
        with client.stream("POST", ROUTE, json=body) as response:
            lines = response.iter_lines()
            for _ in range(10):
                next(lines)
            if not count_running():
                raise RuntimeError(
                    "the completion ended before the client did: ask for more tokens"
                )
        start = time.perf_counter()
        while count_running():
            if time.perf_counter() - start > TIMEOUT_S:
                raise RuntimeError("the slot was never freed")
        return time.perf_counter() - start


def _count_processing(llama: httpx.Client) -> int:
    return sum(slot["is_processing"] for slot in read_slots(llama))


def _read_running(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("gristmill_running_sequences")
    )


def _body(endpoint: Endpoint, prompt: str, tokens: int) -> dict[str, object]:
    return {
        "model": endpoint.model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _stream(endpoint: Endpoint, prompt: str, tokens: int) -> Answer:
    """Read a completion without a library of HTTP, whose work per chunk would compete with the server's."""
    address = httpx.URL(endpoint.url)
    start = time.perf_counter()
    first_s = None
    text, count = "", 0
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        body = _body(endpoint, prompt, tokens)
        host = f"{address.host}:{address.port}"
        async for event in stream_events(reader, writer, ROUTE, body, host):
            text += "".join(choice["text"] for choice in event["choices"])
            if first_s is None and text:
                first_s = time.perf_counter() - start
            if usage := event.get("usage"):
                count = usage["completion_tokens"]
    except StreamError as error:
        raise RuntimeError(f"{endpoint.name}: {error}") from None
    finally:
        writer.close()
    seconds = time.perf_counter() - start
    if count != tokens:
        raise RuntimeError(f"{endpoint.name}: a completion has {count} tokens, not {tokens}")
    first_s = seconds if first_s is None else first_s  # of tokens that are no whole characters
    return Answer(text, count, first_s, seconds)
