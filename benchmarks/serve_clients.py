"""Clients of an OpenAI-compatible endpoint that measure it."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Endpoint:
    """A running server.

    Attributes:
        name: as it is printed.
        url: without ``/v1``.
        model: what requests name.
    """

    name: str
    url: str
    model: str


@dataclass(frozen=True)
class Answer:
    """A streamed completion.

    Attributes:
        tokens: that were generated, by the server's count.
        first_s: from the request to the first text.
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

    async def ask() -> Answer:
        async with _client(endpoint) as client:
            return await _stream(client, endpoint, prompt, tokens)

    return asyncio.run(ask())


def load(endpoint: Endpoint, prompts: Sequence[str], tokens: int, clients: int) -> LoadResult:
    """Let clients ask one prompt after the other, until all prompts are answered."""

    async def run() -> LoadResult:
        left = list(reversed(prompts))
        answers: list[Answer] = []

        async def work() -> None:
            async with _client(endpoint) as client:
                while left:
                    answers.append(await _stream(client, endpoint, left.pop(), tokens))

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(clients)))
        seconds = time.perf_counter() - start
        first = sorted(answer.first_s for answer in answers)
        return LoadResult(sum(answer.tokens for answer in answers) / seconds, first)

    return asyncio.run(run())


def disconnect(endpoint: Endpoint, prompt: str, tokens: int) -> float:
    """Close the connection after some chunks; return the seconds until nothing is generated any more.

    The resolution is that of a request to ``/metrics``, some milliseconds.
    """
    with httpx.Client(base_url=endpoint.url, timeout=TIMEOUT_S) as client:
        body = _body(endpoint, prompt, tokens)
        with client.stream("POST", "/v1/completions", json=body) as response:
            lines = response.iter_lines()
            for _ in range(10):
                next(lines)
            if not _running(client):
                raise RuntimeError(
                    "the completion ended before the client did: ask for more tokens"
                )
        start = time.perf_counter()
        while _running(client):
            if time.perf_counter() - start > TIMEOUT_S:
                raise RuntimeError("the slot was never freed")
        return time.perf_counter() - start


def _running(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("gristmill_running_sequences")
    )


def _client(endpoint: Endpoint) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=endpoint.url, timeout=TIMEOUT_S)


def _body(endpoint: Endpoint, prompt: str, tokens: int) -> dict[str, object]:
    return {
        "model": endpoint.model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _stream(
    client: httpx.AsyncClient, endpoint: Endpoint, prompt: str, tokens: int
) -> Answer:
    start = time.perf_counter()
    first, count, parts = None, 0, []
    body = _body(endpoint, prompt, tokens)
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != 200:
            raise RuntimeError(f"{endpoint.name}: {(await response.aread())[:300]!r}")
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if chunk["choices"] and chunk["choices"][0]["text"]:
                if first is None:
                    first = time.perf_counter() - start
                parts.append(chunk["choices"][0]["text"])
            if chunk.get("usage"):
                count = chunk["usage"]["completion_tokens"]
    seconds = time.perf_counter() - start
    if first is None or count != tokens:
        raise RuntimeError(f"{endpoint.name}: a completion has {count} tokens, not {tokens}")
    return Answer("".join(parts), count, first, seconds)
