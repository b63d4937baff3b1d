"""``/v1/completions``."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from serve.api.answers import AnswerFormat
from serve.api.encoding import encode
from serve.api.endpoint import (
    Endpoint,
    LengthFields,
    check_ids,
    limit_tokens,
    read_sampling,
    require_engine,
)
from serve.api.errors import ApiError
from serve.api.outputs import Choice, echo_prompt, sample_several
from serve.api.record import RequestRecord
from serve.api.schemas import MAX_LOGPROBS, CompletionBody
from serve.engines.interface import Generation
from serve.hub import Deployment
from serve.text.generation import Piece, PlacedToken
from serve.text.tokens import TokenTexts

ROUTE = "/v1/completions"
DEFAULT_TOKENS = 16  # as OpenAI has it
FIELDS = LengthFields("prompt", "max_tokens")


def add_completions(app: FastAPI, endpoint: Endpoint) -> None:
    """Add the route."""
    kind = "text_completion"
    answers = AnswerFormat("cmpl", kind, kind, _plan, _write_choice, _write_chunk)

    @app.post(ROUTE, response_class=Response)
    async def completions(body: CompletionBody, request: Request) -> Response:
        """Continue a text, or several."""
        return answers.respond(endpoint, body, request)


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
    given = body.prompts
    texts = [prompt for prompt in given if isinstance(prompt, str)]
    encoded = iter(
        await encode(texts, model, FIELDS.prompt, lambda: list(map(model.encode_prompt, texts)))
    )
    prompts: list[tuple[str | None, list[int], int]] = []
    for prompt in given:
        text = prompt if isinstance(prompt, str) else None
        ids = next(encoded) if isinstance(prompt, str) else prompt
        # Every document of the training data follows an end of text.
        ids = ids or [model.eos_id]
        check_ids(ids, model, "prompt")
        limit = limit_tokens(
            len(ids), body.max_tokens, DEFAULT_TOKENS, model, endpoint.limits, FIELDS
        )
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


def _write_chunk(
    deployment: Deployment,
    body: CompletionBody,
    choice: Choice,
    piece: Piece | None,
    _is_first: bool,  # noqa: FBT001 - see AnswerFormat
) -> dict[str, Any]:
    # What comes after the prompt has its place behind it.
    offset = len(choice.echo.text) if choice.echo is not None and piece is not choice.echo else 0
    return _write_choice(deployment, body, [piece] if piece else [], offset)


def _write_choice(
    deployment: Deployment, body: CompletionBody, pieces: Sequence[Piece], offset: int = 0
) -> dict[str, Any]:
    """Return pieces of an output; ``offset`` characters of the prompt were sent before."""
    choice: dict[str, Any] = {
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
