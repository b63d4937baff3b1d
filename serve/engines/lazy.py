"""An engine that starts when it is first needed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from serve.engines.interface import (
    Engine,
    EngineError,
    Generation,
    Load,
    TextModel,
    TokenScore,
    Vector,
)


class FullEngine(Engine, TextModel, Protocol):
    """Generates, and says something of texts."""


class LazyEngine:
    """Starts another engine with the first request that needs it.

    Args:
        start: starts it.
        name: of the other engine.
        context_length: of the model.
    """

    def __init__(
        self, start: Callable[[], Awaitable[FullEngine]], name: str, context_length: int
    ) -> None:
        self.name = name
        self.context_length = context_length
        self._start = start
        self._engine: FullEngine | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def generate(self, generation: Generation) -> AsyncGenerator[TokenScore, None]:
        """Yield tokens; see ``Engine``."""
        engine = await self._get()
        async with aclosing(engine.generate(generation)) as scores:
            async for score in scores:
                yield score

    async def score(self, ids: Sequence[int], num_top: int = 0) -> list[TokenScore]:
        """Return log-probabilities; see ``Engine``."""
        return await (await self._get()).score(ids, num_top)

    async def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        """Return vectors; see ``TextModel``."""
        return await (await self._get()).embed(texts)

    async def fill_mask(self, ids: Sequence[int], num_top: int) -> list[list[tuple[int, float]]]:
        """Return tokens for masks; see ``TextModel``."""
        return await (await self._get()).fill_mask(ids, num_top)

    async def classify(self, texts: Sequence[Sequence[int]]) -> Vector:
        """Return probabilities of labels; see ``TextModel``."""
        return await (await self._get()).classify(texts)

    async def tag(self, ids: Sequence[int]) -> Vector:
        """Return probabilities of labels; see ``TextModel``."""
        return await (await self._get()).tag(ids)

    @property
    def is_ready(self) -> bool:
        """Whether the other engine can answer; see ``Engine``. Before the first request nothing is missing."""
        return not self._closed and (self._engine is None or self._engine.is_ready)

    def load(self) -> Load:
        """Return what it is doing; see ``Engine``."""
        return Load(0, 0, 0) if self._engine is None else self._engine.load()

    async def close(self) -> None:
        """End the other engine, if it was started."""
        async with self._starting:
            self._closed = True
            if self._engine is not None:
                await self._engine.close()

    async def _get(self) -> FullEngine:
        async with self._starting:
            if self._closed:
                raise EngineError("the engine was closed")
            if self._engine is None:
                self._engine = await self._start()
            return self._engine
