"""What completions and conversations share: an answer as a whole, or as a stream of chunks."""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response

from serve.api.endpoint import Endpoint
from serve.api.live import EventStream, LiveResponse
from serve.api.outputs import Choice, SourceUpdate, run_outputs
from serve.api.record import RECORD, RequestRecord
from serve.api.schemas import GenerationBody
from serve.hub import Deployment
from serve.text.generation import Piece

DONE = b"[DONE]"

B = TypeVar("B", bound=GenerationBody)


@dataclass(frozen=True)
class AnswerFormat(Generic[B]):
    """How a route reads a request and writes its outputs.

    Attributes:
        id_prefix: of answers.
        kind: ``object`` of an answer.
        chunk_kind: ``object`` of a chunk.
        plan: returns the outputs of a request, or raises ``ApiError``.
        write_choice: an output as a whole, from its pieces.
        write_chunk: what a chunk says of an output: the next piece, or none; and whether it is the output's first.
    """

    id_prefix: str
    kind: str
    chunk_kind: str
    plan: Callable[[Endpoint, Deployment, B, RequestRecord], Awaitable[list[Choice]]]
    write_choice: Callable[[Deployment, B, Sequence[Piece]], dict[str, Any]]
    write_chunk: Callable[[Deployment, B, Choice, Piece | None, bool], dict[str, Any]]

    def respond(self, endpoint: Endpoint, body: B, request: Request) -> Response:
        """Return what answers a request, and ends with its client."""
        record = request.scope[RECORD]
        timeout_s = endpoint.limits.timeout_s
        if body.stream:
            return EventStream(self._stream(endpoint, body, record), timeout_s)
        return LiveResponse(lambda: self._answer(endpoint, body, record), timeout_s)

    async def _answer(self, endpoint: Endpoint, body: B, record: RequestRecord) -> bytes:
        async with self._run(endpoint, body, record) as (deployment, choices, events):
            pieces: list[list[Piece]] = [[] for _ in choices]
            updates: list[SourceUpdate | None] = [None] * len(choices)
            async for index, event in events:
                if isinstance(event, Piece):
                    pieces[index].append(event)
                else:
                    updates[index] = event
            answer = self._head(deployment, self.kind)
            answer["choices"] = [
                {"index": index, **self.write_choice(deployment, body, parts), **_sources(update)}
                for index, (parts, update) in enumerate(zip(pieces, updates, strict=True))
            ]
        return orjson.dumps({**answer, "usage": _count_usage(record)})

    async def _stream(
        self, endpoint: Endpoint, body: B, record: RequestRecord
    ) -> AsyncGenerator[bytes, None]:
        async with self._run(endpoint, body, record) as (deployment, choices, events):
            head = self._head(deployment, self.chunk_kind)
            started: set[int] = set()
            async for index, event in events:
                piece, update = (event, None) if isinstance(event, Piece) else (None, event)
                is_first = index not in started
                started.add(index)
                chunk = self.write_chunk(deployment, body, choices[index], piece, is_first)
                choice = {"index": index, **chunk, **_sources(update)}
                yield orjson.dumps({**head, "choices": [choice]})
        if body.include_usage:
            yield orjson.dumps({**head, "choices": [], "usage": _count_usage(record)})
        yield DONE

    @asynccontextmanager
    async def _run(
        self, endpoint: Endpoint, body: B, record: RequestRecord
    ) -> AsyncIterator[
        tuple[Deployment, list[Choice], AsyncGenerator[tuple[int, Piece | SourceUpdate], None]]
    ]:
        async with endpoint.serve(body.model, record) as deployment:
            choices = await self.plan(endpoint, deployment, body, record)
            running = run_outputs(
                endpoint,
                deployment,
                choices,
                body.stops,
                record,
                sources=body.sources,
                streaming=bool(body.stream),
            )
            async with aclosing(running) as events:
                yield deployment, choices, events

    def _head(self, deployment: Deployment, kind: str) -> dict[str, Any]:
        return {
            "id": f"{self.id_prefix}-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": deployment.id,
            "system_fingerprint": deployment.model.digest[:16],
        }


def _sources(update: SourceUpdate | None) -> dict[str, Any]:
    return {} if update is None else {"gristmill_sources": update.value}


def _count_usage(record: RequestRecord) -> dict[str, int]:
    prompt, generated = record.prompt_tokens or 0, record.generated_tokens or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
    }
