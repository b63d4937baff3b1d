"""What all routes stand on: models, limits, metrics, and what a request may ask of a model."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lm.models.model_kind import SEQ2SEQ
from serve.api.admission import Admission
from serve.api.encoding import check_length
from serve.api.errors import ApiError
from serve.api.limits import Limits
from serve.api.metrics import Metrics
from serve.api.record import RequestRecord
from serve.api.schemas import GenerationBody
from serve.engines.interface import Engine, Sampling, TextModel
from serve.hub import Deployment, Hub, UnknownModelError
from serve.models import ServedModel
from serve.text.tokens import TokenTexts


class Endpoint:
    """What answers requests.

    Args:
        hub: the models.
        limits: of requests.
        metrics: counts them.
        admission: lets them in.
    """

    def __init__(self, hub: Hub, limits: Limits, metrics: Metrics, admission: Admission) -> None:
        self.hub = hub
        self.limits = limits
        self.metrics = metrics
        self.admission = admission

    @asynccontextmanager
    async def serve(self, name: str | None, record: RequestRecord) -> AsyncIterator[Deployment]:
        """Let a request in and give it its model.

        Raises:
            ApiError: 404 if there is no such model, 429 if too many requests wait.
        """
        try:
            async with self.hub.use(name) as deployment:
                record.model = deployment.id
                with self.admission.admit():
                    yield deployment
        except UnknownModelError:
            known = ", ".join(self.hub.ids)
            message = f"model: there is no model {name!r}; there are: {known}"
            raise ApiError(404, message, param="model", code="model_not_found") from None


def require_engine(deployment: Deployment) -> tuple[Engine, TokenTexts]:
    """Return what generates text.

    Raises:
        ApiError: if the model does not.
    """
    engine, tokens = deployment.engines.engine, deployment.tokens
    if engine is None or tokens is None:
        kind = deployment.model.kind
        raise ApiError(
            400,
            f"model: {deployment.id} is of the kind {kind}, which writes no text; GET /v1/models lists its routes",
            param="model",
            code="unsupported_by_model",
        )
    return engine, tokens


def require_text_model(deployment: Deployment, *, can: bool, what: str) -> TextModel:
    """Return what says something of texts.

    Raises:
        ApiError: if the model does not.
    """
    model = deployment.engines.text_model
    if model is None or not can:
        raise ApiError(
            400,
            f"model: {deployment.id} is of the kind {deployment.model.kind}, which {what}; GET /v1/models "
            "lists its routes",
            param="model",
            code="unsupported_by_model",
        )
    return model


@dataclass(frozen=True)
class LengthFields:
    """The fields of a request that decide its length: what holds the prompt, and what limits the output."""

    prompt: str
    limit: str


def check_ids(ids: Sequence[int], model: ServedModel, param: str) -> None:
    """Raise ``ApiError`` if a token id is outside of the vocabulary."""
    size = model.tokenizer.get_vocab_size(with_added_tokens=True)
    wrong = next((item for item in ids if not 0 <= item < size), None)
    if wrong is not None:
        raise ApiError(
            400,
            f"{param}: there is no token {wrong}; the vocabulary has {size}",
            param=param,
            code="invalid_token",
        )


def limit_tokens(
    num_prompt: int,
    wanted: int | None,
    default: int | None,
    model: ServedModel,
    limits: Limits,
    fields: LengthFields,
) -> int:
    """Return how many tokens to generate at most.

    Args:
        num_prompt: tokens of the prompt.
        wanted: of the request.
        default: if it says nothing; ``None``: as many as there is room for.
        model: whose context has to hold both; of an encoder-decoder each.
        limits: of the endpoint.
        fields: of the request, for messages.

    Raises:
        ApiError: if they do not fit.
    """
    check_length(num_prompt, model, fields.prompt)
    context = room = model.context_length
    if model.kind != SEQ2SEQ.name:
        room -= num_prompt
    if room < (wanted or 0) or (room < 1 and wanted != 0):
        if room < 1:
            field = fields.prompt
            message = f"its {num_prompt} tokens leave no room for new ones in the context of {model.name}; shorten it"
        else:
            field = fields.limit
            beside = "" if room == context else f" after the {num_prompt} of {fields.prompt}"
            message = (
                f"{wanted} new tokens{beside} do not fit in the context of {model.name}, which holds {context}; "
                f"ask for at most {room}"
            )
        raise ApiError(400, f"{field}: {message}", param=field, code="context_length_exceeded")
    if (wanted or 0) > limits.max_tokens:
        raise ApiError(
            400,
            f"{fields.limit}: this server generates at most {limits.max_tokens}",
            param=fields.limit,
            code="invalid_value",
        )
    if wanted is not None:
        return wanted
    return max(0, min(room, limits.max_tokens, default or room))


def read_sampling(body: GenerationBody, model: ServedModel) -> Sampling:
    """Return how a request wants tokens chosen; without a seed it gets one.

    Raises:
        ApiError: if a key of ``logit_bias`` is no token.
    """
    bias = []
    for key, value in (body.logit_bias or {}).items():
        if not (key.isascii() and key.isdigit()) or len(key) > 9:
            message = f"logit_bias: {key[:40]!r} is no token id"
            raise ApiError(400, message, param="logit_bias", code="invalid_token")
        bias.append((int(key), value))
    check_ids([token for token, _ in bias], model, "logit_bias")
    seed = secrets.randbits(31) if body.seed is None else body.seed % (1 << 63)
    return Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=max(0, body.top_k or 0),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty or 1.0,
        logit_bias=tuple(bias),
        seed=seed,
    )
