"""``/v1/chat/completions``."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from infra.errors import UserError
from serve.api.answers import AnswerFormat
from serve.api.encoding import check_text_length
from serve.api.endpoint import (
    Endpoint,
    LengthFields,
    limit_tokens,
    read_sampling,
    require_engine,
)
from serve.api.errors import ApiError
from serve.api.outputs import Choice, sample_several
from serve.api.record import RequestRecord
from serve.api.schemas import ChatBody
from serve.engines.interface import Generation
from serve.hub import Deployment
from serve.models import NoChatTemplateError
from serve.text.generation import Piece, PlacedToken
from serve.text.tokens import TokenTexts

ROUTE = "/v1/chat/completions"


def add_chat(app: FastAPI, endpoint: Endpoint) -> None:
    """Add the route."""
    answers = AnswerFormat(
        "chatcmpl", "chat.completion", "chat.completion.chunk", _plan, _write_choice, _write_chunk
    )

    @app.post(ROUTE, response_class=Response)
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """Continue a conversation."""
        return answers.respond(endpoint, body, request)


async def _plan(
    endpoint: Endpoint, deployment: Deployment, body: ChatBody, record: RequestRecord
) -> list[Choice]:
    """Return the outputs of a conversation.

    Raises:
        ApiError: if the model has no chat template, or its context does not hold them.
    """
    require_engine(deployment)
    model = deployment.model
    turns = [item.turn for item in body.messages]
    fields = LengthFields("messages", body.limit_field)

    def encode() -> list[int]:
        text = model.render_chat(turns)
        check_text_length(text, model, fields.prompt)
        return model.tokenize(text, adds_tokens=False)

    try:
        ids = await asyncio.to_thread(encode)
    except NoChatTemplateError as error:
        message = f"model: {error}; use /v1/completions"
        raise ApiError(400, message, param="model", code="no_chat_template") from None
    except UserError as error:
        raise ApiError(400, str(error), param="messages", code="invalid_value") from None
    limit = limit_tokens(len(ids), body.limit, None, model, endpoint.limits, fields)
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


def _write_choice(
    deployment: Deployment, body: ChatBody, pieces: Sequence[Piece]
) -> dict[str, Any]:
    content = "".join(piece.text for piece in pieces)
    return {
        "message": {"role": "assistant", "content": content, "refusal": None},
        "logprobs": _logprobs(deployment, body, pieces),
        "finish_reason": pieces[-1].finish_reason,
    }


def _write_chunk(
    deployment: Deployment,
    body: ChatBody,
    _choice: Choice,
    piece: Piece | None,
    is_first: bool,  # noqa: FBT001 - see AnswerFormat
) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": "assistant"} if is_first else {}
    if piece is not None and piece.text:
        delta["content"] = piece.text
    return {
        "delta": delta,
        "logprobs": _logprobs(deployment, body, [piece] if piece else []),
        "finish_reason": piece.finish_reason if piece else None,
    }


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
        **_token_json(tokens, score.id, score.logprob),
        "top_logprobs": [_token_json(tokens, token, value) for token, value in score.top],
    }


def _token_json(tokens: TokenTexts, token: int, logprob: float | None) -> dict[str, Any]:
    return {"token": tokens.spell(token), "logprob": logprob, "bytes": tokens.spell_bytes(token)}
