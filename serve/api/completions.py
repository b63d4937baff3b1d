"""``/v1/completions``."""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from serve.api.endpoint import (
    Choice,
    Endpoint,
    Found,
    check_ids,
    echo_prompt,
    limit_tokens,
    read_sampling,
    require_engine,
    sample_several,
)
from serve.api.errors import ApiError
from serve.api.live import RECORD, EventStream, LiveResponse, RequestRecord
from serve.api.schemas import MAX_LOGPROBS, CompletionBody
from serve.engines.interface import Generation
from serve.hub import Deployment
from serve.text.generation import Piece, PlacedToken
from serve.text.tokens import TokenTexts

ROUTE = "/v1/completions"
DEFAULT_TOKENS = 16  # as OpenAI has it
DONE = b"[DONE]"


def add_completions(app: FastAPI, endpoint: Endpoint) -> None:
    """Add the route."""

    @app.post(ROUTE, response_class=Response)
    async def completions(body: CompletionBody, request: Request) -> Response:
        """Continue a text, or several."""
        record = request.scope[RECORD]
        timeout_s = endpoint.limits.timeout_s
        if body.stream:
            return EventStream(_stream(endpoint, body, record), timeout_s)
        return LiveResponse(lambda: _answer(endpoint, body, record), timeout_s)


async def _answer(endpoint: Endpoint, body: CompletionBody, record: RequestRecord) -> bytes:
    async with endpoint.serve(body.model, record) as deployment:
        choices = await _plan(endpoint, deployment, body, record)
        pieces: list[list[Piece]] = [[] for _ in choices]
        sources: list[Found | None] = [None] * len(choices)
        running = endpoint.run(
            deployment, choices, body.stops, record, sources=body.sources, streaming=False
        )
        async with aclosing(running) as events:
            async for index, event in events:
                if isinstance(event, Piece):
                    pieces[index].append(event)
                else:
                    sources[index] = event
        answer = _head(deployment)
        answer["choices"] = [
            _choice(deployment, body, index, parts, found)
            for index, (parts, found) in enumerate(zip(pieces, sources, strict=True))
        ]
        answer["usage"] = usage(record)
        return orjson.dumps(answer)


async def _stream(
    endpoint: Endpoint, body: CompletionBody, record: RequestRecord
) -> AsyncGenerator[bytes, None]:
    async with endpoint.serve(body.model, record) as deployment:
        choices = await _plan(endpoint, deployment, body, record)
        head = _head(deployment)
        offsets = [0] * len(choices)
        running = endpoint.run(
            deployment, choices, body.stops, record, sources=body.sources, streaming=True
        )
        async with aclosing(running) as events:
            async for index, event in events:
                parts, found = ([event], None) if isinstance(event, Piece) else ([], event)
                choice = _choice(deployment, body, index, parts, found, offsets[index])
                if isinstance(event, Piece) and choices[index].echo is event:
                    offsets[index] = len(event.text)
                yield orjson.dumps({**head, "choices": [choice]})
        if body.include_usage:
            yield orjson.dumps({**head, "choices": [], "usage": usage(record)})
        yield DONE


async def _plan(
    endpoint: Endpoint, deployment: Deployment, body: CompletionBody, record: RequestRecord
) -> list[Choice]:
    """Return the outputs: ``n`` for the first prompt, ``n`` for the second, and so on.

    Raises:
        ApiError: if the model or its context does not allow them.
    """
    engine, tokens = require_engine(deployment)
    model = deployment.model
    sampling = read_sampling(body, model)
    prompts: list[tuple[str | None, list[int], int]] = []
    for prompt in body.prompts:
        text = prompt if isinstance(prompt, str) else None
        ids = model.encode_prompt(prompt) if isinstance(prompt, str) else prompt
        # Every document of the training data follows an end of text.
        ids = ids or [model.eos_id]
        check_ids(ids, model, "prompt")
        limit = limit_tokens(len(ids), body.max_tokens, DEFAULT_TOKENS, model, endpoint.limits)
        prompts.append((text, ids, limit))
    record.prompt_tokens = sum(len(ids) for _, ids, _ in prompts)
    if body.logprobs is not None:
        listed = sum(len(ids) * bool(body.echo) + limit for _, ids, limit in prompts)
        listed *= (body.n or 1) * (1 + body.logprobs)
        if listed > MAX_LOGPROBS:
            message = f"logprobs: up to {listed:,} of one answer; at most {MAX_LOGPROBS:,}"
            raise ApiError(400, message, param="logprobs")
    choices = []
    for text, ids, limit in prompts:
        echo = None
        if body.echo:
            echo = await echo_prompt(engine, tokens, ids, text, body.logprobs)
        if limit == 0:
            choices += [Choice(None, echo)] * (body.n or 1)
            continue
        generation = Generation(
            tuple(ids),
            limit,
            sampling,
            logprobs=body.logprobs is not None,
            num_top=body.logprobs or 0,
            stop_ids=model.stop_ids,
        )
        choices += [Choice(each, echo) for each in sample_several(generation, body.n or 1)]
    return choices


def _head(deployment: Deployment) -> dict[str, Any]:
    return {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": deployment.id,
        "system_fingerprint": deployment.model.digest[:16],
    }


def _choice(
    deployment: Deployment,
    body: CompletionBody,
    index: int,
    pieces: Sequence[Piece],
    found: Found | None,
    offset: int = 0,
) -> dict[str, Any]:
    """Return an output, or what a chunk says of it.

    Args:
        deployment: the model.
        body: of the request.
        index: of the output.
        pieces: what to say of it.
        found: its sources.
        offset: characters of the prompt that was sent before, if it was.
    """
    choice: dict[str, Any] = {
        "index": index,
        "text": "".join(piece.text for piece in pieces),
        "logprobs": None,
        "finish_reason": pieces[-1].finish_reason if pieces else None,
    }
    if body.logprobs is not None and pieces:
        assert deployment.tokens is not None
        placed = []
        for piece in pieces:
            placed += [(item, offset) for item in piece.tokens]
            if body.echo and not piece.num_tokens:
                offset += len(piece.text)  # of the prompt
        choice["logprobs"] = _logprobs(deployment.tokens, placed)
    if found is not None:
        choice["gristmill_sources"] = found.value
    return choice


def _logprobs(
    tokens: TokenTexts, placed: Sequence[tuple[PlacedToken, int]]
) -> dict[str, list[Any]]:
    """Return log-probabilities in the shape of completions, in which a prompt's first token has none."""
    return {
        "tokens": [tokens.spell(item.score.id) for item, _ in placed],
        "token_logprobs": [item.score.logprob for item, _ in placed],
        "top_logprobs": [
            None
            if item.score.logprob is None
            else {tokens.spell(token): value for token, value in item.score.top}
            for item, _ in placed
        ],
        "text_offset": [item.offset + offset for item, offset in placed],
    }


def usage(record: RequestRecord) -> dict[str, int]:
    """Return the tokens of a request."""
    prompt, generated = record.prompt_tokens or 0, record.generated_tokens or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
    }
