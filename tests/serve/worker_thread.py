"""The torch engine with its worker on a thread of this process: its messages and models, but no start of a process."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serve.engines.batched.engine import TorchEngine
from serve.engines.batched.loading import load_worker_model
from serve.engines.batched.messages import Connection
from serve.engines.batched.worker import Worker
from serve.hub import Engines
from serve.models import ServedModel
from tests.limits import WAIT_TIMEOUT_S


class WorkerThread(threading.Thread):
    """A worker with the methods of a process that the engine calls; it ends when its socket does."""

    def __init__(
        self, model: ServedModel, slots: int, cache_bytes: int, own: socket.socket
    ) -> None:
        super().__init__(daemon=True)
        self._model, self._slots, self._cache_bytes = model, slots, cache_bytes
        self._socket = own

    def run(self) -> None:
        with self._socket:
            connection = Connection(self._socket)
            scheduler, tasks, vocab_size = load_worker_model(
                self._model.folder, self._slots, self._cache_bytes
            )
            connection.send({"kind": "ready", "vocab_size": vocab_size})
            Worker(connection, scheduler, tasks).run()

    def wait(self, timeout: float | None = None) -> int:
        self.join(timeout or WAIT_TIMEOUT_S)
        if self.is_alive():
            raise subprocess.TimeoutExpired("worker", timeout or WAIT_TIMEOUT_S)
        return 0

    def kill(self) -> None:
        """Do nothing: what a thread runs cannot be ended, and ends with the test."""


def _start_thread(
    model: ServedModel, slots: int, cache_bytes: int
) -> tuple[WorkerThread, socket.socket]:
    ours, theirs = socket.socketpair()
    thread = WorkerThread(model, slots, cache_bytes, theirs)
    thread.start()
    return thread, ours


@contextmanager
def workers_on_threads() -> Iterator[None]:
    """Let engines that are started meanwhile have their workers on threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.engines.batched.engine._start_process", _start_thread)
        yield


async def start_torch_engines(model: ServedModel) -> Engines:
    """Start the torch engine of a model of any kind."""
    engine = await TorchEngine.start(model, slots=4)
    return Engines(engine if model.generates else None, engine)
