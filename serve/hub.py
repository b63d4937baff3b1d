"""The models that the endpoint serves, by id, and how one takes the place of another without a failed request."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from infra.errors import UserError
from infra.store.storage import Storage
from serve.engines.interface import Engine, TextModel
from serve.models import ServedModel, load_served_model
from serve.scratch import ScratchFolder
from serve.sources import SourceFinder
from serve.text.tokens import TokenTexts

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0  # before a model that did not start is tried again


@dataclass(frozen=True)
class Target:
    """A released model to serve.

    Attributes:
        key: another one means another model.
        folder: its files; downloaded if they are not on this machine.
        version: of the registry; ``None`` outside of one.
        alias: by which it was found there; ``None`` if it was not.
        open_sources: returns what finds the sources of its texts. Raises ``UserError``, which says why
            there is nothing.
    """

    key: str
    folder: Storage
    version: int | None = None
    alias: str | None = None
    open_sources: Callable[[], SourceFinder] | None = None


@dataclass(frozen=True)
class ModelSource:
    """An id of the endpoint, and which released model it stands for.

    Attributes:
        id: that requests name.
        find: looks up the model that is to be served now; blocks.
    """

    id: str
    find: Callable[[], Target]


@dataclass(frozen=True)
class Engines:
    """What runs a model: one that generates, one that says something of texts, or both."""

    engine: Engine | None
    text_model: TextModel | None

    @property
    def all(self) -> list[Engine | TextModel]:
        """Each of them once; what generates comes first."""
        both = (self.engine, self.text_model)
        return list({id(item): item for item in both if item is not None}.values())

    async def close(self) -> None:
        """End all."""
        for engine in self.all:
            await engine.close()


StartEngines = Callable[[ServedModel], Awaitable[Engines]]


@dataclass
class Deployment:
    """A model that answers requests.

    Attributes:
        users: requests that use it now.
        retired: another one has taken its place.
    """

    id: str
    target: Target
    model: ServedModel
    engines: Engines
    tokens: TokenTexts | None
    sources: SourceFinder | None
    sources_error: str | None
    scratch: ScratchFolder | None
    created: int = field(default_factory=lambda: int(time.time()))
    users: int = 0
    retired: bool = False

    async def close(self) -> None:
        """End its engines, and delete what was downloaded."""
        await self.engines.close()
        if self.scratch is not None:
            await asyncio.to_thread(self.scratch.delete)


@dataclass(frozen=True)
class _Failure:
    """A model that did not start, and when it is tried again, by the monotonic clock."""

    key: str
    pause_s: float
    retry_at: float


class UnknownModelError(Exception):
    """No model has the id of a request."""


class Hub:
    """The served models.

    Args:
        sources: ids and what they stand for; the first one is the default.
        start_engines: starts what runs a model.
        on_swap: is called with the id when a model has taken the place of another.
        clock: seconds, which only grow.
    """

    def __init__(
        self,
        sources: Sequence[ModelSource],
        start_engines: StartEngines,
        on_swap: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = {source.id: source for source in sources}
        self._start_engines = start_engines
        self._deployments: dict[str, Deployment] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._failures: dict[str, _Failure] = {}
        self._clock = clock
        self.on_swap = on_swap

    @property
    def ids(self) -> list[str]:
        """The ids, the default first."""
        return list(self._sources)

    @property
    def deployments(self) -> list[Deployment]:
        """The models that take new requests."""
        return [self._deployments[key] for key in self._sources if key in self._deployments]

    @property
    def is_ready(self) -> bool:
        """Whether every id has a model."""
        return len(self._deployments) == len(self._sources)

    async def start(self) -> None:
        """Start all models, or none.

        Raises:
            UserError: if one cannot be served.
            EngineError: if its engine does not start.
        """
        try:
            for source in self._sources.values():
                target = await asyncio.to_thread(source.find)
                self._deployments[source.id] = await self._deploy(source.id, target)
        except BaseException:
            await self.close()
            raise

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[Deployment]:
        """Give a model to a request, which keeps it to its end.

        Raises:
            UnknownModelError: if there is none of this id.
        """
        deployment = self._deployments.get(name or next(iter(self._sources)))
        if deployment is None:
            raise UnknownModelError(name)
        deployment.users += 1
        try:
            yield deployment
        finally:
            deployment.users -= 1
            if deployment.retired and not deployment.users:
                self._close_later(deployment)

    async def refresh(self) -> None:
        """Look up what the ids stand for now, and change what has changed.

        A new model that cannot be found or started is logged; the one before stays. One that did not start is tried
        again after pauses that grow.
        """
        for source in self._sources.values():
            current = self._deployments[source.id]
            try:
                target = await asyncio.to_thread(source.find)
            except Exception as error:  # noqa: BLE001 - a running server keeps what it has
                log.warning("%s: keeps %s: %s", source.id, current.target.key, error)
                continue
            failure = self._failures.get(source.id)
            if failure is not None and failure.key != target.key:
                failure = None
                del self._failures[source.id]
            if target.key == current.target.key:
                continue
            if failure is not None and self._clock() < failure.retry_at:
                continue
            try:
                log.info("%s: %s is loaded", source.id, target.key)
                new = await self._deploy(source.id, target)
            except Exception as error:  # noqa: BLE001 - a running server keeps what it has
                pause = FIRST_PAUSE_S
                if failure is not None:
                    pause = min(2 * failure.pause_s, LONGEST_PAUSE_S)
                self._failures[source.id] = _Failure(target.key, pause, self._clock() + pause)
                log.warning(
                    "%s: keeps %s: %s; %s is tried again in %.0f s",
                    source.id,
                    current.target.key,
                    error,
                    target.key,
                    pause,
                )
                continue
            self._failures.pop(source.id, None)
            self._deployments[source.id] = new
            current.retired = True
            log.info(
                "%s: %s now answers, and no longer %s", source.id, target.key, current.target.key
            )
            self.on_swap(source.id)
            if not current.users:
                self._close_later(current)

    async def watch(self, interval_s: float) -> None:
        """Call ``refresh`` again and again."""
        while True:
            await asyncio.sleep(interval_s)
            await self.refresh()

    async def close(self) -> None:
        """End all models."""
        await asyncio.gather(*self._closing)
        for deployment in list(self._deployments.values()):
            await deployment.close()
        self._deployments.clear()

    def _close_later(self, deployment: Deployment) -> None:
        task = asyncio.create_task(deployment.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _deploy(self, name: str, target: Target) -> Deployment:
        scratch = None
        path = target.folder.local_path()
        try:
            if path is None:
                scratch = await _download(target.folder)
                path = scratch.path
            model = await asyncio.to_thread(load_served_model, path, name)
            tokens = TokenTexts(model.tokenizer) if model.generates else None
            sources, why = await asyncio.to_thread(_open_sources, target, model)
            engines = await self._start_engines(model)
        except BaseException:
            if scratch is not None:
                await asyncio.to_thread(scratch.delete)
            raise
        return Deployment(name, target, model, engines, tokens, sources, why, scratch)


async def _download(folder: Storage) -> ScratchFolder:
    """Copy a folder to this machine; if that is cancelled, the file that is on its way is the last."""
    is_cancelled = threading.Event()

    def download() -> ScratchFolder:
        scratch = ScratchFolder()
        try:
            for name in folder.list_files():
                path = scratch.path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                folder.download(name, path)
                if is_cancelled.is_set():
                    break
        except BaseException:
            scratch.delete()
            raise
        return scratch

    downloading = asyncio.ensure_future(asyncio.to_thread(download))
    try:
        return await asyncio.shield(downloading)
    except asyncio.CancelledError:
        is_cancelled.set()
        with suppress(Exception):  # it was deleted
            await asyncio.to_thread((await downloading).delete)
        raise


def _open_sources(target: Target, model: ServedModel) -> tuple[SourceFinder | None, str | None]:
    """Return what finds sources, or why there is nothing."""
    if target.open_sources is None:
        return (
            None,
            "the model was not served from a store, which has the index of its training data",
        )
    if not model.generates:
        return None, "the model writes no text"
    try:
        return target.open_sources(), None
    except UserError as error:
        return None, str(error)
    except Exception as error:  # a model without sources is better than none
        log.exception("%s: its sources cannot be opened", target.key)
        return None, f"the index of its training data cannot be opened ({error!r})"
