"""What all routes stand on: models, limits, metrics, and how a request becomes generations."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from lm.models.model_kind import SEQ2SEQ
from serve.api.admission import Admission
from serve.api.errors import ApiError
from serve.api.live import RequestRecord
from serve.api.metrics import Metrics
from serve.api.schemas import GenerationBody
from serve.engines.interface import Engine, Generation, Sampling, TextModel
from serve.hub import Deployment, Hub, UnknownModelError
from serve.models import SOURCE_ROOM, ServedModel
from serve.sources import SourceTracker
from serve.text.generation import Piece, PlacedToken, generate_text
from serve.text.tokens import Detokenizer, TokenTexts

log = logging.getLogger(__name__)

SOURCE_INTERVAL_S = 0.2  # between two looks at where the words of a growing text stand


@dataclass(frozen=True)
class Limits:
    """Limits of requests.

    Attributes:
        timeout_s: of a request.
        max_body: bytes.
        max_tokens: new tokens of one output.
        slots: sequences that an engine generates at once.
        max_queue: requests that may wait.
    """

    timeout_s: float = 600.0
    max_body: int = 1 << 20
    max_tokens: int = 4096
    slots: int = 16
    max_queue: int = 256


@dataclass(frozen=True)
class Found:
    """Where the words of a text stand in the training data, or why that is not known."""

    value: Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """One output of a request.

    Attributes:
        generation: ``None`` if nothing is generated.
        echo: the prompt as a piece of the output.
    """

    generation: Generation | None
    echo: Piece | None = None


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

    async def run(
        self,
        deployment: Deployment,
        choices: Sequence[Choice],
        stops: Sequence[str],
        record: RequestRecord,
        *,
        sources: bool,
        streaming: bool,
    ) -> AsyncGenerator[tuple[int, Piece | Found], None]:
        """Yield the pieces of all outputs as they come, each with the number of its output.

        Args:
            deployment: the model.
            choices: the outputs.
            stops: stop sequences.
            record: of the request; gets tokens and times.
            sources: whether to look up sources.
            streaming: whether to look them up while text comes, and not at its end only.
        """
        first, last = 0.0, 0.0
        counts = [0] * len(choices)
        runs = [
            _run_choice(deployment, choice, stops, sources=sources, streaming=streaming)
            for choice in choices
        ]
        try:
            async with aclosing(_merge(runs, self.limits.slots)) as events:
                async for index, event in events:
                    if isinstance(event, Piece) and event.num_tokens:
                        counts[index] = event.num_tokens
                        last = time.monotonic()
                        if not first:
                            first = last
                            record.first_token_s = round(first - record.start, 4)
                            self.metrics.observe_first_token(deployment.id, first - record.start)
                    yield index, event
        finally:
            record.generated_tokens = sum(counts)
            self.metrics.count_tokens(deployment.id, record.prompt_tokens or 0, sum(counts))
            if max(counts, default=0) > 1:
                self.metrics.observe_token(deployment.id, (last - first) / (max(counts) - 1))


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
    prompt: int, wanted: int | None, default: int | None, model: ServedModel, limits: Limits
) -> int:
    """Return how many tokens to generate at most.

    Args:
        prompt: tokens of the prompt.
        wanted: of the request.
        default: if it says nothing; ``None``: as many as there is room for.
        model: whose context has to hold both.
        limits: of the endpoint.

    Raises:
        ApiError: if they do not fit.
    """
    context = model.context_length
    room = context - prompt
    if model.kind == SEQ2SEQ.name:  # which has a context for each
        room = context
        context += SOURCE_ROOM
    if prompt > context or (room < 1 and wanted != 0) or (wanted or 0) > room:
        asked = f" and max_tokens is {wanted}" if wanted else ""
        raise ApiError(
            400,
            f"the prompt has {prompt} tokens{asked}; the context of {model.name} holds {context}",
            param="max_tokens" if wanted and room > 0 else "prompt",
            code="context_length_exceeded",
        )
    if (wanted or 0) > limits.max_tokens:
        raise ApiError(
            400,
            f"max_tokens: this server generates at most {limits.max_tokens}",
            param="max_tokens",
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


def sample_several(generation: Generation, n: int) -> list[Generation]:
    """Return ``n`` generations that differ in their seeds: that of the request, and those after it."""
    seed = generation.sampling.seed
    return [
        replace(generation, sampling=replace(generation.sampling, seed=(seed + number) % (1 << 63)))
        for number in range(n)
    ]


async def echo_prompt(
    engine: Engine,
    tokens: TokenTexts,
    prompt: Sequence[int],
    text: str | None,
    num_top: int | None,
) -> Piece:
    """Return a prompt as a piece of the output.

    Args:
        engine: gives the log-probabilities.
        tokens: their texts.
        prompt: ids.
        text: as it was given, if it was.
        num_top: alternatives per token; ``None`` if no log-probabilities are asked for.
    """
    detokenizer, placed, decoded = Detokenizer(tokens), [], ""
    scores = [] if num_top is None else await engine.score(prompt, num_top)
    for index, token in enumerate(prompt):
        if scores:
            placed.append(PlacedToken(scores[index], len(decoded)))
        decoded += detokenizer.feed(token)
    decoded += detokenizer.finish()
    return Piece(decoded if text is None else text, placed)


async def _run_choice(
    deployment: Deployment,
    choice: Choice,
    stops: Sequence[str],
    *,
    sources: bool,
    streaming: bool,
) -> AsyncGenerator[Piece | Found, None]:
    """Yield the pieces of one output, and what is found of its sources."""
    if choice.echo is not None:
        yield choice.echo
    if choice.generation is None:
        yield Piece("", finish_reason="length")
        return
    engine, tokens = require_engine(deployment)
    follower = None
    if sources and deployment.sources is not None:
        follower = _Follower(deployment.sources.track())
    elif sources:
        yield Found({"error": deployment.sources_error})
    generated = generate_text(engine, choice.generation, tokens, stops)
    try:
        async with aclosing(generated) as pieces:
            async for piece in pieces:
                yield piece
                if follower is not None:
                    found = follower.add(piece.text, look=streaming)
                    if found is not None:
                        yield Found(found)
        if follower is not None:
            async for value in follower.finish():
                yield Found(value)
    finally:
        if follower is not None:
            follower.cancel()


class _Follower:
    """Looks up a growing text on a thread, one look at a time, and no more after one has failed."""

    def __init__(self, tracker: SourceTracker) -> None:
        self._tracker = tracker
        self._text = ""
        self._last = 0.0
        self._failed = False
        self._running: asyncio.Task[Mapping[str, Any] | None] | None = None

    def add(self, text: str, *, look: bool) -> Mapping[str, Any] | None:
        """Append text; return what a look has found since."""
        self._text += text
        found = None
        if self._running is not None and self._running.done():
            found = self._running.result()
            self._running = None
        now = time.monotonic()
        is_due = now - self._last >= SOURCE_INTERVAL_S
        if look and is_due and self._running is None and not self._failed:
            self._last = now
            self._running = asyncio.create_task(self._look())
        return found

    async def finish(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield what is found when the text is complete."""
        if self._running is not None:
            found = await self._running
            if found is not None:
                yield found
        found = None if self._failed else await self._look(final=True)
        if found is not None:
            yield found

    def cancel(self) -> None:
        """Wait for no look any more."""
        if self._running is not None:
            self._running.cancel()

    async def _look(self, *, final: bool = False) -> Mapping[str, Any] | None:
        try:
            return await asyncio.to_thread(self._tracker.update, self._text, final=final)
        except Exception:
            log.exception("the sources of a text could not be looked up")
            self._failed = True
            return {"error": "the index of the training data failed; the server's log says why"}


async def _merge(
    runs: Sequence[AsyncGenerator[Piece | Found, None]], at_once: int
) -> AsyncGenerator[tuple[int, Piece | Found], None]:
    """Yield what several generators yield, as it comes, with their numbers."""
    if len(runs) == 1:
        async with aclosing(runs[0]) as events:
            async for event in events:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Piece | Found] | BaseException | None] = asyncio.Queue(256)
    room = asyncio.Semaphore(at_once)

    async def drain(index: int) -> None:
        try:
            async with room, aclosing(runs[index]) as events:
                async for event in events:
                    await queue.put((index, event))
            await queue.put(None)
        except Exception as error:  # noqa: BLE001 - it is raised below
            await queue.put(error)

    tasks = [asyncio.create_task(drain(index)) for index in range(len(runs))]
    try:
        left = len(runs)
        while left:
            item = await queue.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
