"""From a step's number to this process's share of its batch, made ready while the model works."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread

import numpy as np
import numpy.typing as npt

from infra.dataset.dataset import Dataset
from infra.formats.megatron import TRAIN, TokenShards
from lm.config.train import TrainConfig
from lm.data.shuffle import Indices, Ranges
from lm.data.sampler import Plan, Sampler, sampler
from lm.data.prefetch import ReadAhead, check_room

AHEAD = 4  # steps that are made ready beforehand
TOGETHER = 256  # rows that are made at once, where steps are small
POLL = 0.1  # seconds after which a waiting thread looks whether it is still wanted

Rows = npt.NDArray[np.int64]


class NotServed(Exception):
    """A batch that could not be made ready, on this process; no ``UserError``, which all share.

    The others wait for this process in vain until it ends and torchrun starts all of them again.
    """


@dataclass(frozen=True)
class Batch:
    """A process's share of one step.

    Attributes:
        rows: int64[n, context + 1], inputs and, one to the right, their targets; -1 is padding.
        samples: int64[n], the rows' numbers in the whole run; the same for any number of processes.
        digest: sum of the rows' hashes. Summed over the processes it tells whether two runs saw
            the same tokens, however many processes each had.
    """

    rows: Rows
    samples: Indices
    digest: int


class Feed:
    """The share that one of several equal processes has in every batch."""

    def __init__(
        self,
        sampler: Sampler,
        shards: TokenShards,
        rank: int,
        world: int,
        *,
        eos: int,
        first: int = 0,
        ahead: ReadAhead | None = None,
    ) -> None:
        """Serve rank ``rank`` of ``world``, from step ``first`` on.

        Args:
            sampler: the order of the run.
            shards: the training split.
            rank: of this process.
            world: number of processes.
            eos: id of the end of text, the first input of packed rows.
            first: the first step to be asked for.
            ahead: what reads remote shards ahead of the run.
        """
        self._sampler, self._shards, self._eos, self._ahead = sampler, shards, eos, ahead
        self._closed, self._next = False, first
        share = sampler.plan.batch // world
        self._mine = slice(rank * share, (rank + 1) * share)
        self._start(first)

    def batch(self, step: int) -> Batch:
        """This process's share of a 0-based step.

        Steps are expected one after the other; any other is served, too, but not beforehand.

        Raises:
            NotServed: if it could not be made ready; tells why.
        """
        if self._closed:
            raise RuntimeError("the feed is closed")
        if step != self._next:
            self._halt()
            self._start(step)
        if self._ahead:
            self._ahead.reached(step)
        made = self._ready.get()
        if isinstance(made, BaseException):
            self._next = -1  # the thread is gone: whoever asks again starts another
            raise NotServed(f"step {step}: {made}") from made
        self._next = step + 1
        return made

    def close(self) -> None:
        """End the threads that work ahead."""
        self._closed = True
        self._halt()
        if self._ahead:
            self._ahead.close()

    def _halt(self) -> None:
        self._unwanted.set()
        self._thread.join()

    def _start(self, first: int) -> None:
        self._next = first
        self._ready: Queue[Batch | BaseException] = Queue(AHEAD)
        self._unwanted = Event()
        self._thread = Thread(
            target=self._work, args=(first, self._ready, self._unwanted), name="feed", daemon=True
        )
        self._thread.start()

    def _work(self, step: int, ready: "Queue[Batch | BaseException]", unwanted: Event) -> None:
        stride = 1  # the first step is wanted soon
        while not unwanted.is_set():
            made: list[Batch | BaseException]
            try:
                made = [*self._make(step, stride)]
            except BaseException as error:  # noqa: BLE001 - raised again by `batch`
                made = [error]
            for batch in made:
                while not unwanted.is_set():
                    try:
                        ready.put(batch, timeout=POLL)
                        break
                    except Full:
                        continue
            if isinstance(made[0], BaseException):
                return
            step += stride
            stride = min(2 * stride, max(1, TOGETHER // len(made[0].samples)))

    def _make(self, first: int, steps: int) -> list[Batch]:
        """Some steps at once: what a step costs beside its rows is paid once."""
        numbers = [self._sampler.samples(step)[self._mine] for step in range(first, first + steps)]
        pieces = self._sampler.pieces(np.concatenate(numbers))
        rows = np.full((sum(map(len, numbers)), self._sampler.plan.context + 1), -1, np.int64)
        rows[:, 0] = self._eos
        self._shards.fill(rows, pieces.rows, pieces.columns, pieces.starts, pieces.lengths)
        return [
            Batch(own, samples, digest_rows(own))
            for own, samples in zip(np.split(rows, steps), numbers, strict=True)
        ]


def open_feed(
    config: TrainConfig,
    tokens: Dataset,
    seed: int,
    rank: int,
    world: int,
    cache: Path,
    first: int = 0,
    skip: Ranges = (),
) -> Feed:
    """What a process of a run learns from.

    Args:
        config: the recipe's entry.
        tokens: token shards.
        seed: the recipe's.
        rank: of this process.
        world: number of processes.
        cache: folder for blocks of remote shards; shared by the processes of a machine.
        first: the first step to be asked for.
        skip: half-open ranges of batches that are left out.

    Raises:
        TooFewTokens: if the training split, or one source of a mixture, is shorter than one window.
        UserError: if the mixture names a source without documents, or the cache is too small.
    """
    shards = TokenShards(tokens, TRAIN, cache, config.cache_bytes)
    order = sampler(Plan.of(config, seed, skip), shards)
    ahead = None
    if any(shards.blocks):
        check_room(order, shards, config.name)
        ahead = ReadAhead(order, shards, first, config.steps)
    return Feed(order, shards, rank, world, eos=tokens.facts["eos_id"], first=first, ahead=ahead)


def validation_rows(shards: TokenShards, context: int, most: int) -> Rows:
    """A fixed set of held-out rows, spread evenly over the split.

    Args:
        shards: the validation split.
        context: targets per row.
        most: tokens to predict in all, at most.

    Returns:
        int64[n, context + 1]; what lies beyond the split's end is -1. No rows if the split has
        fewer than two tokens.
    """
    total = -(-max(0, len(shards) - 1) // context)
    count = min(total, most // context)
    rows = np.full((count, context + 1), -1, np.int64)
    for row, window in enumerate(np.linspace(0, total - 1, count).round().astype(int)):
        start = int(window) * context
        length = min(context + 1, len(shards) - start)
        rows[row, :length] = shards.window(start, length)
    return rows


def digest_rows(rows: Rows) -> int:
    """The sum of the rows' CRC-32."""
    return sum(zlib.crc32(row.data) for row in rows)
