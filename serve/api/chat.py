"""``/v1/chat/completions``."""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.responses import Response

from infra.errors import UserError
from serve.api.completions import DONE, usage
from serve.api.endpoint import (
    Choice,
    Endpoint,
    Found,
    limit_tokens,
    read_sampling,
    require_engine,
    sample_several,
)
from serve.api.errors import ApiError
from serve.api.live import RECORD, EventStream, LiveResponse, RequestRecord
from serve.api.schemas import ChatBody
from serve.engines.interface import Generation
from serve.hub import Deployment
from serve.text.generation import Piece, PlacedToken
from serve.text.tokens import TokenTexts

ROUTE = "/v1/chat/completions"


def add_chat(app: FastAPI, endpoint: Endpoint) -> None:
    """Add the route."""

    @app.post(ROUTE, response_class=Response)
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """Continue a conversation."""
        record = request.scope[RECORD]
        timeout_s = endpoint.limits.timeout_s
        if body.stream:
            return EventStream(_stream(endpoint, body, record), timeout_s)
        return LiveResponse(lambda: _answer(endpoint, body, record), timeout_s)


async def _answer(endpoint: Endpoint, body: ChatBody, record: RequestRecord) -> bytes:
    async with endpoint.serve(body.model, record) as deployment:
        choices = _plan(endpoint, deployment, body, record)
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
        answer = _head(deployment, "chat.completion")
        answer["choices"] = [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": "".join(piece.text for piece in parts),
                    "refusal": None,
                },
                "logprobs": _logprobs(deployment, body, parts),
                "finish_reason": parts[-1].finish_reason,
                **_sources(found),
            }
            for index, (parts, found) in enumerate(zip(pieces, sources, strict=True))
        ]
        answer["usage"] = usage(record)
        return orjson.dumps(answer)


async def _stream(
    endpoint: Endpoint, body: ChatBody, record: RequestRecord
) -> AsyncGenerator[bytes, None]:
    async with endpoint.serve(body.model, record) as deployment:
        choices = _plan(endpoint, deployment, body, record)
        head = _head(deployment, "chat.completion.chunk")
        begun = [False] * len(choices)
        running = endpoint.run(
            deployment, choices, body.stops, record, sources=body.sources, streaming=True
        )
        async with aclosing(running) as events:
            async for index, event in events:
                delta: dict[str, Any] = {}
                if not begun[index]:
                    begun[index] = True
                    delta["role"] = "assistant"
                piece = event if isinstance(event, Piece) else None
                if piece is not None and piece.text:
                    delta["content"] = piece.text
                choice = {
                    "index": index,
                    "delta": delta,
                    "logprobs": _logprobs(deployment, body, [piece] if piece else []),
                    "finish_reason": piece.finish_reason if piece else None,
                    **_sources(event if isinstance(event, Found) else None),
                }
                yield orjson.dumps({**head, "choices": [choice]})
        if body.include_usage:
            yield orjson.dumps({**head, "choices": [], "usage": usage(record)})
        yield DONE


def _plan(
    endpoint: Endpoint, deployment: Deployment, body: ChatBody, record: RequestRecord
) -> list[Choice]:
    """Return the outputs of a conversation.

    Raises:
        ApiError: if the model has no chat template, or its context does not hold them.
    """
    require_engine(deployment)
    model = deployment.model
    if model.chat_template is None:
        raise ApiError(
            400,
            f"model: {deployment.id} has no chat template: it was not trained on conversations; use "
            "/v1/completions",
            param="model",
            code="no_chat_template",
        )
    messages = [item.turn for item in body.messages]
    try:
        ids = model.encode_chat(messages)
    except UserError as error:
        raise ApiError(400, str(error), param="messages", code="invalid_value") from None
    limit = limit_tokens(len(ids), body.limit, None, model, endpoint.limits)
    record.prompt_tokens = len(ids)
    generation = Generation(
        tuple(ids),
        limit,
        read_sampling(body, model),
        logprobs=bool(body.logprobs),
        num_top=body.top_logprobs or 0,
        stop_ids=model.stop_ids,
    )
    return [Choice(each) for each in sample_several(generation, body.n or 1)]


def _head(deployment: Deployment, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": deployment.id,
        "system_fingerprint": deployment.model.digest[:16],
    }


def _sources(found: Found | None) -> dict[str, Any]:
    return {} if found is None else {"gristmill_sources": found.value}


def _logprobs(
    deployment: Deployment, body: ChatBody, pieces: Sequence[Piece]
) -> dict[str, Any] | None:
    """Return log-probabilities in the shape of conversations."""
    tokens = deployment.tokens
    if not body.logprobs or not pieces or tokens is None:
        return None
    content = [_token(tokens, item) for piece in pieces for item in piece.tokens]
    return {"content": content, "refusal": None}


def _token(tokens: TokenTexts, placed: PlacedToken) -> dict[str, Any]:
    score = placed.score
    return {
        **_spelled(tokens, score.id, score.logprob),
        "top_logprobs": [_spelled(tokens, token, value) for token, value in score.top],
    }


def _spelled(tokens: TokenTexts, token: int, logprob: float | None) -> dict[str, Any]:
    return {"token": tokens.spell(token), "logprob": logprob, "bytes": tokens.spell_bytes(token)}
