"""The endpoint's side of the batched engine: starts its process, sends requests, hands out tokens as they come."""

import asyncio
import logging
import socket
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from infra.compute.processes import TERM_GRACE_S, die_with_parent
from infra.errors import UserError
from lm.models.model_kind import SEQ2SEQ
from serve.engines.batched.messages import (
    Message,
    decode_score,
    encode_generation,
    pack,
    read_message,
)
from serve.engines.child import module_command, module_environment
from serve.engines.interface import EngineError, Generation, Load, TokenScore, Vector
from serve.models import ServedModel

log = logging.getLogger(__name__)

DEFAULT_SLOTS = 16
DEFAULT_CACHE_BYTES = 256 << 20


class TorchEngine:
    """An ``Engine`` and a ``TextModel`` for released folders of all families, in one process of its own.

    Its process has one thread. If it dies, its requests end with ``EngineError``, and it is started again. It ends with this one, however this one ends; start it from a thread that
    lives as long as it is needed. Methods are called from the event loop that it was started in.
    """

    name = "torch"

    def __init__(self, model: ServedModel, slots: int, cache_bytes: int, child: "_Child") -> None:
        """See ``start``."""
        self._model, self._slots, self._cache_bytes = model, slots, cache_bytes
        self._last_id = 0
        self._streams: dict[int, asyncio.Queue[tuple[TokenScore, bool] | str]] = {}
        self._results: dict[int, asyncio.Future[Message]] = {}
        self._starting = asyncio.Lock()
        self._closed = False
        self._use(child)

    @classmethod
    async def start(
        cls,
        model: ServedModel,
        *,
        slots: int = DEFAULT_SLOTS,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> "TorchEngine":
        """Start the process and wait until it has loaded the model.

        Args:
            model: a released folder.
            slots: sequences that are generated together.
            cache_bytes: how much is kept of prompts, for others that begin alike; 0: nothing.

        Raises:
            UserError: if the model cannot be loaded.
            EngineError: if the process dies.
        """
        return cls(model, slots, cache_bytes, await _start_child(model, slots, cache_bytes))

    def _use(self, child: "_Child") -> None:
        """Send requests to a process from now on."""
        self._child = child
        self._load = Load(0, 0, self._slots)
        self._sent = self._received = 0
        self._failure: str | None = None
        self._listening = asyncio.create_task(self._listen(child))

    async def _ensure_running(self) -> None:
        """Start the process again if it has died.

        Raises:
            EngineError: if it does not start, or the engine was closed.
        """
        if self._failure is None:
            return
        async with self._starting:
            if self._closed:
                raise EngineError(self._failure)
            if self._failure is not None:
                try:
                    child = await _start_child(self._model, self._slots, self._cache_bytes)
                except UserError as error:  # of the folder: the request is not to blame
                    raise EngineError(str(error)) from None
                self._use(child)

    @property
    def context_length(self) -> int:
        """See ``Engine``."""
        return self._model.context_length

    @property
    def is_ready(self) -> bool:
        """See ``Engine``."""
        return self._failure is None

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._child.process.pid

    def load(self) -> Load:
        """See ``Engine``; what was sent and has not arrived yet counts as waiting."""
        on_the_way = self._sent - self._received
        return Load(**{**vars(self._load), "waiting": self._load.waiting + on_the_way})

    async def generate(self, generation: Generation) -> AsyncGenerator[TokenScore, None]:
        """See ``Engine``."""
        self._check(generation.prompt, generation.max_new_tokens)
        await self._ensure_running()
        id_ = self._new_id()
        queue: asyncio.Queue[tuple[TokenScore, bool] | str] = asyncio.Queue()
        self._streams[id_] = queue
        is_last = False
        try:
            self._sent += 1
            self._send({"kind": "generate", "generation": encode_generation(generation)}, id_)
            while not is_last:
                item = await queue.get()
                if isinstance(item, str):
                    raise EngineError(item)
                score, is_last = item
                yield score
        finally:
            self._streams.pop(id_, None)
            if not is_last:
                self._cancel(id_)

    async def score(self, ids: Sequence[int], num_top: int = 0) -> list[TokenScore]:
        """See ``Engine``.

        Raises:
            UserError: if the model is an encoder-decoder, which gives a text no probability.
        """
        if self._model.kind == SEQ2SEQ.name:
            raise UserError(
                f"{self._model.name} is an encoder-decoder: it reads a prompt, and gives its tokens no probability"
            )
        self._check(ids)
        answer = await self._ask({"kind": "score", "ids": list(ids), "num_top": num_top})
        return [decode_score(values) for values in answer["value"]]

    async def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        """See ``TextModel``; ``UserError`` if the model does not do it, as for all of these methods."""
        return await self._compute("embed", texts)

    async def classify(self, texts: Sequence[Sequence[int]]) -> Vector:
        """See ``TextModel``."""
        return await self._compute("classify", texts)

    async def tag(self, ids: Sequence[int]) -> Vector:
        """See ``TextModel``."""
        return await self._compute("tag", [ids])

    async def fill_mask(self, ids: Sequence[int], num_top: int) -> list[list[tuple[int, float]]]:
        """See ``TextModel``."""
        self._check_task("fill_mask", [ids])
        answer = await self._ask({"kind": "fill_mask", "ids": list(ids), "num_top": num_top})
        return [[(id_, value) for id_, value in best] for best in answer["value"]]

    async def close(self) -> None:
        """See ``Engine``."""
        self._closed = True
        self._listening.cancel()
        async with self._starting:
            self._listening.cancel()  # of a process that was just started
            self._fail(f"the engine of {self._model.name} was closed")
            self._child.writer.close()
            with suppress(ConnectionError):
                await self._child.writer.wait_closed()
            await asyncio.to_thread(_end_process, self._child.process)

    def _check_task(self, task: str, texts: Sequence[Sequence[int]]) -> None:
        if task not in self._model.tasks:
            raise UserError(
                f"{self._model.name} is of the kind {self._model.kind}: it cannot {task}"
            )
        for ids in texts:
            self._check(ids)

    def _check(self, ids: Sequence[int], max_new_tokens: int = 0) -> None:
        """Refuse what would end the process.

        Raises:
            UserError: if an id is none of the model's, or a text has no token or too many.
        """
        if not ids or min(ids) < 0 or max(ids) >= self._child.vocab_size:
            raise UserError(
                f"{self._model.name} reads at least one token, with ids from 0 to {self._child.vocab_size - 1}"
            )
        beside = 0 if self._model.kind == SEQ2SEQ.name else max_new_tokens
        length = max(len(ids) + beside, max_new_tokens)
        if length > self._model.max_prompt_tokens:
            raise UserError(
                f"{self._model.name} reads and writes up to {self.context_length} tokens, not {length}"
            )

    async def _compute(self, kind: str, texts: Sequence[Sequence[int]]) -> Vector:
        self._check_task(kind, texts)
        answer = await self._ask({"kind": kind, "texts": [list(ids) for ids in texts]})
        array: Vector = answer["array"]
        return array

    async def _ask(self, message: Message) -> Message:
        await self._ensure_running()
        id_ = self._new_id()
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._results[id_] = future
        try:
            self._send(message, id_)
            return await future
        finally:
            self._results.pop(id_, None)
            if not future.done() or future.cancelled():
                self._cancel(id_)

    def _cancel(self, id_: int) -> None:
        if self._failure is None:
            self._send({"kind": "cancel"}, id_)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _send(self, message: Message, id_: int) -> None:
        if self._failure is not None:
            raise EngineError(self._failure)
        self._child.writer.write(pack({**message, "id": id_}))

    async def _listen(self, child: "_Child") -> None:
        """Hand out what a process sends until it ends; then start another one."""
        try:
            while True:
                self._receive(await read_message(child.reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            child.writer.close()
            status = await asyncio.to_thread(child.process.wait)
            self._fail(f"the process of {self._model.name} ended with status {status}")
        log.warning("%s; it is started again", self._failure)
        try:
            await self._ensure_running()
        except EngineError as error:
            log.warning("%s; the next request starts it again", error)

    def _receive(self, message: Message) -> None:
        if message["kind"] == "result":
            future = self._results.get(message["id"])
            if future is not None and not future.done():
                future.set_result(message)
            return
        load: dict[str, Any] = message["load"]
        self._received = load.pop("received")
        self._load = Load(**load)
        for id_, values, is_last in message["tokens"]:
            queue = self._streams.get(id_)
            if queue is not None:
                queue.put_nowait((decode_score(values), is_last))

    def _fail(self, message: str) -> None:
        if self._failure is not None:
            return
        self._failure = message
        self._load, self._sent, self._received = Load(0, 0, self._slots), 0, 0
        for queue in self._streams.values():
            queue.put_nowait(message)
        for future in self._results.values():
            if not future.done():
                future.set_exception(EngineError(message))


@dataclass(frozen=True)
class _Child:
    """A process that has loaded the model, and the streams to it."""

    process: "subprocess.Popen[bytes]"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    vocab_size: int


async def _start_child(model: ServedModel, slots: int, cache_bytes: int) -> _Child:
    """Start a process and wait until it has loaded the model; see ``TorchEngine.start``."""
    process, ours = _start_process(model, slots, cache_bytes)
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        message = await read_message(reader)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
        status = await asyncio.to_thread(process.wait)
        raise EngineError(f"the process of {model.name} ended with status {status}") from None
    except BaseException:
        writer.close()
        process.kill()
        process.wait()
        raise
    if message["kind"] == "refused":
        writer.close()
        await asyncio.to_thread(process.wait)
        raise UserError(message["message"])
    return _Child(process, reader, writer, int(message["vocab_size"]))


def _end_process(process: "subprocess.Popen[bytes]") -> None:
    """Wait until a process has seen that its socket is closed; kill it if it does not."""
    try:
        process.wait(TERM_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start_process(
    model: ServedModel, slots: int, cache_bytes: int
) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """Start a worker; return it, and the socket to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = [str(theirs.fileno()), str(model.folder), str(slots), str(cache_bytes)]
        process = subprocess.Popen(
            module_command("serve.engines.batched.worker", *arguments),
            env={**module_environment(), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the endpoint, which lets requests finish
            preexec_fn=die_with_parent,  # noqa: PLW1509 - a single prctl, safe between fork and exec
        )
    return process, ours
