"""The outputs of a request while they are generated: pieces of text, and where its words stand."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from serve.api.endpoint import Endpoint, require_engine
from serve.api.record import RequestRecord
from serve.engines.interface import Engine, Generation
from serve.hub import Deployment
from serve.sources import SourceTracker
from serve.text.generation import Piece, PlacedToken, generate_text
from serve.text.tokens import Detokenizer, TokenTexts

log = logging.getLogger(__name__)

SOURCE_INTERVAL_S = 0.2  # between two looks at where the words of a growing text stand


@dataclass(frozen=True)
class SourceUpdate:
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


async def run_outputs(
    endpoint: Endpoint,
    deployment: Deployment,
    choices: Sequence[Choice],
    stops: Sequence[str],
    record: RequestRecord,
    *,
    sources: bool,
    streaming: bool,
) -> AsyncGenerator[tuple[int, Piece | SourceUpdate], None]:
    """Yield the pieces of all outputs as they come, each with the number of its output.

    Args:
        endpoint: its limits and metrics.
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
        async with aclosing(_merge(runs, endpoint.limits.slots)) as events:
            async for index, event in events:
                if isinstance(event, Piece) and event.num_tokens:
                    counts[index] = event.num_tokens
                    last = time.monotonic()
                    if not first:
                        first = last
                        record.first_token_s = round(first - record.start, 4)
                        endpoint.metrics.observe_first_token(deployment.id, first - record.start)
                yield index, event
    finally:
        record.generated_tokens = sum(counts)
        endpoint.metrics.count_tokens(deployment.id, record.prompt_tokens or 0, sum(counts))
        if max(counts, default=0) > 1:
            endpoint.metrics.observe_token(deployment.id, (last - first) / (max(counts) - 1))


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
) -> AsyncGenerator[Piece | SourceUpdate, None]:
    """Yield the pieces of one output, and updates of its sources."""
    if choice.echo is not None:
        yield choice.echo
    if choice.generation is None:
        yield Piece("", finish_reason="length")
        return
    engine, tokens = require_engine(deployment)
    lookup = None
    if sources and deployment.sources is not None:
        lookup = _SourceLookup(deployment.sources.track())
    elif sources:
        yield SourceUpdate({"error": deployment.sources_error})
    generated = generate_text(engine, choice.generation, tokens, stops)
    try:
        async with aclosing(generated) as pieces:
            async for piece in pieces:
                yield piece
                if lookup is not None:
                    update = lookup.add(piece.text, look=streaming)
                    if update is not None:
                        yield SourceUpdate(update)
        if lookup is not None:
            async for value in lookup.finish():
                yield SourceUpdate(value)
    finally:
        if lookup is not None:
            lookup.cancel()


class _SourceLookup:
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
        update = None
        if self._running is not None and self._running.done():
            update = self._running.result()
            self._running = None
        now = time.monotonic()
        is_due = now - self._last >= SOURCE_INTERVAL_S
        if look and is_due and self._running is None and not self._failed:
            self._last = now
            self._running = asyncio.create_task(self._look())
        return update

    async def finish(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield what is found when the text is complete."""
        if self._running is not None:
            update = await self._running
            if update is not None:
                yield update
        update = None if self._failed else await self._look(final=True)
        if update is not None:
            yield update

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
    runs: Sequence[AsyncGenerator[Piece | SourceUpdate, None]], at_once: int
) -> AsyncGenerator[tuple[int, Piece | SourceUpdate], None]:
    """Yield what several generators yield, as it comes, with their numbers."""
    if len(runs) == 1:
        async with aclosing(runs[0]) as events:
            async for event in events:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Piece | SourceUpdate] | BaseException | None] = asyncio.Queue(
        256
    )
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
