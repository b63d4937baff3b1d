"""The process of an engine: reads requests, runs a step of all sequences, sends tokens.

Work that is not generated token by token (scores, vectors, labels) is done in pieces, one between two steps.
It ends when its parent does: the kernel kills it, and its socket ends.
"""

import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from infra.errors import UserError
from serve.engines.batched.messages import Connection, Message, decode_generation, encode_score
from serve.engines.batched.scheduler import Scheduler
from serve.engines.batched.text_model import TextTasks
from serve.engines.interface import Vector

Job = Iterator[Callable[[Connection], None] | None]  # ends with how its result is sent


class Worker:
    """Answers the messages of one connection."""

    def __init__(
        self, connection: Connection, scheduler: Scheduler | None, tasks: TextTasks | None
    ) -> None:
        """Run what the model can do: generate, or say something of texts, or both."""
        self._connection, self._scheduler, self._tasks = connection, scheduler, tasks
        self._jobs: deque[tuple[int, Job]] = deque()
        self._received = 0

    def run(self) -> None:
        """Work until the other side ends."""
        while True:
            is_idle = not self._jobs and not (self._scheduler and self._scheduler.is_busy)
            try:
                messages = self._connection.receive(wait=is_idle)
            except (EOFError, ConnectionError):
                return
            for message in messages:
                self._handle(message)
            tokens = []
            if self._scheduler is not None and self._scheduler.is_busy:
                tokens = [
                    [token.sequence, encode_score(token.score), token.is_last]
                    for token in self._scheduler.step()
                ]
            if self._scheduler is not None and (tokens or messages):
                load = {**asdict(self._scheduler.load()), "received": self._received}
                self._connection.send({"kind": "tokens", "tokens": tokens, "load": load})
            if self._jobs:
                self._work()

    def _handle(self, message: Message) -> None:
        kind, id_ = message["kind"], message["id"]
        if kind == "cancel":
            self._jobs = deque(job for job in self._jobs if job[0] != id_)
            if self._scheduler is not None:
                self._scheduler.cancel(id_)
        elif kind == "generate":
            assert self._scheduler is not None
            self._received += 1
            self._scheduler.submit(id_, decode_generation(message["generation"]))
        else:
            self._jobs.append((id_, self._start(kind, id_, message)))

    def _start(self, kind: str, id_: int, message: Message) -> Job:
        """Return the pieces of a job."""
        if kind == "score":
            assert self._scheduler is not None
            scores = []
            for piece in self._scheduler.score(message["ids"], message["num_top"]):
                scores += piece
                yield None
            answer = {"kind": "result", "id": id_, "value": [encode_score(each) for each in scores]}
            yield lambda connection: connection.send(answer)
            return
        assert self._tasks is not None
        if kind == "fill_mask":
            value = self._tasks.fill_mask(message["ids"], message["num_top"])
            answer = {"kind": "result", "id": id_, "value": value}
            yield lambda connection: connection.send(answer)
            return
        pieces: list[Vector] = []
        for array in self._tasks.compute(kind, message["texts"]):
            pieces.append(array)
            yield None
        array = np.concatenate(pieces)
        yield lambda connection: connection.send({"kind": "result", "id": id_}, array)

    def _work(self) -> None:
        """Do a piece of the first job."""
        _, job = self._jobs[0]
        send = next(job)
        if send is not None:
            send(self._connection)
            self._jobs.popleft()


def main() -> None:
    """Run the worker of a folder: arguments are the socket's descriptor, the folder, slots, cache bytes."""
    import torch

    from serve.engines.batched.loading import load_worker_model

    descriptor, folder, slots, cache_bytes = sys.argv[1:]
    connection = Connection(socket.socket(fileno=int(descriptor)))
    torch.set_num_threads(1)  # more are slower at these sizes, and take cores from other processes
    try:
        scheduler, tasks, vocab_size = load_worker_model(Path(folder), int(slots), int(cache_bytes))
    except UserError as error:
        connection.send({"kind": "refused", "message": str(error)})
        return
    connection.send({"kind": "ready", "vocab_size": vocab_size})
    Worker(connection, scheduler, tasks).run()


if __name__ == "__main__":
    main()
