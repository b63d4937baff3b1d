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
from lm.data.prefetch import ShardPrefetcher, check_cache_size
from lm.data.sampler import Sampler, SamplingPlan, build_sampler
from lm.data.shuffle import Indices, Ranges

PREFETCH_STEPS = 4  # steps that are made ready beforehand
ROWS_PER_FETCH = 256  # rows that are made at once, where steps are small
POLL_INTERVAL_S = 0.1  # seconds after which a waiting thread looks whether it is still wanted

Rows = npt.NDArray[np.int64]


class DataLoaderError(Exception):
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


class DataLoader:
    """The share that one of several equal processes has in every batch."""

    def __init__(
        self,
        sampler: Sampler,
        shards: TokenShards,
        rank: int,
        world_size: int,
        *,
        eos: int,
        start_step: int = 0,
        prefetcher: ShardPrefetcher | None = None,
    ) -> None:
        """Serve rank ``rank`` of ``world_size``, from step ``start_step`` on.

        Args:
            sampler: the order of the run.
            shards: the training split.
            rank: of this process.
            world_size: number of processes.
            eos: id of the end of text, the first input of packed rows.
            start_step: the first step to be asked for.
            prefetcher: what reads remote shards ahead of the run.
        """
        self._sampler, self._shards, self._eos, self._prefetcher = sampler, shards, eos, prefetcher
        self._closed, self._next_step = False, start_step
        share = sampler.plan.global_batch_size // world_size
        self._rank_slice = slice(rank * share, (rank + 1) * share)
        self._start_thread(start_step)

    def batch(self, step: int) -> Batch:
        """This process's share of a 0-based step.

        Steps are expected one after the other; any other is served, too, but not beforehand.

        Raises:
            NotServed: if it could not be made ready; tells why.
        """
        if self._closed:
            raise RuntimeError("the feed is closed")
        if step != self._next_step:
            self._stop_thread()
            self._start_thread(step)
        if self._prefetcher:
            self._prefetcher.advance(step)
        made = self._queue.get()
        if isinstance(made, BaseException):
            self._next_step = -1  # the thread is gone: whoever asks again starts another
            raise DataLoaderError(f"step {step}: {made}") from made
        self._next_step = step + 1
        return made

    def close(self) -> None:
        """End the threads that work ahead."""
        self._closed = True
        self._stop_thread()
        if self._prefetcher:
            self._prefetcher.close()

    def _stop_thread(self) -> None:
        self._stop.set()
        self._thread.join()

    def _start_thread(self, start_step: int) -> None:
        self._next_step = start_step
        self._queue: Queue[Batch | BaseException] = Queue(PREFETCH_STEPS)
        self._stop = Event()
        self._thread = Thread(
            target=self._run, args=(start_step, self._queue, self._stop), name="feed", daemon=True
        )
        self._thread.start()

    def _run(self, step: int, queue: "Queue[Batch | BaseException]", stop: Event) -> None:
        stride = 1  # the first step is wanted soon
        while not stop.is_set():
            made: list[Batch | BaseException]
            try:
                made = [*self._build_batches(step, stride)]
            except BaseException as error:  # noqa: BLE001 - raised again by `batch`
                made = [error]
            for batch in made:
                while not stop.is_set():
                    try:
                        queue.put(batch, timeout=POLL_INTERVAL_S)
                        break
                    except Full:
                        continue
            if isinstance(made[0], BaseException):
                return
            step += stride
            stride = min(2 * stride, max(1, ROWS_PER_FETCH // len(made[0].samples)))

    def _build_batches(self, start_step: int, steps: int) -> list[Batch]:
        """Some steps at once: what a step costs beside its rows is paid once."""
        numbers = [
            self._sampler.samples(step)[self._rank_slice]
            for step in range(start_step, start_step + steps)
        ]
        pieces = self._sampler.token_spans(np.concatenate(numbers))
        rows = np.full(
            (sum(map(len, numbers)), self._sampler.plan.context_length + 1), -1, np.int64
        )
        rows[:, 0] = self._eos
        self._shards.copy_spans(rows, pieces.rows, pieces.columns, pieces.starts, pieces.lengths)
        return [
            Batch(own, samples, digest_rows(own))
            for own, samples in zip(np.split(rows, steps), numbers, strict=True)
        ]


def build_loader(
    config: TrainConfig,
    tokens: Dataset,
    seed: int,
    rank: int,
    world_size: int,
    cache: Path,
    start_step: int = 0,
    skip: Ranges = (),
) -> DataLoader:
    """What a process of a run learns from.

    Args:
        config: the recipe's entry.
        tokens: token shards.
        seed: the recipe's.
        rank: of this process.
        world_size: number of processes.
        cache: folder for blocks of remote shards; shared by the processes of a machine.
        start_step: the first step to be asked for.
        skip: half-open ranges of batches that are left out.

    Raises:
        TooFewTokens: if the training split, or one source of a mixture, is shorter than one window.
        UserError: if the mixture names a source without documents, or the cache is too small.
    """
    shards = TokenShards(tokens, TRAIN, cache, config.data.shard_cache_bytes)
    order = build_sampler(SamplingPlan.from_config(config, seed, skip), shards)
    ahead = None
    if any(shards.blocks):
        check_cache_size(order, shards, config.name)
        ahead = ShardPrefetcher(order, shards, start_step, config.steps)
    return DataLoader(
        order,
        shards,
        rank,
        world_size,
        eos=tokens.stats["eos_id"],
        start_step=start_step,
        prefetcher=ahead,
    )


def validation_rows(shards: TokenShards, context_length: int, max_tokens: int) -> Rows:
    """A fixed set of held-out rows, spread evenly over the split.

    Args:
        shards: the validation split.
        context_length: targets per row.
        max_tokens: tokens to predict in all, at most.

    Returns:
        int64[n, context + 1]; what lies beyond the split's end is -1. No rows if the split has
        fewer than two tokens.
    """
    total = -(-max(0, len(shards) - 1) // context_length)
    count = min(total, max_tokens // context_length)
    rows = np.full((count, context_length + 1), -1, np.int64)
    for row, window in enumerate(np.linspace(0, total - 1, count).round().astype(int)):
        start = int(window) * context_length
        length = min(context_length + 1, len(shards) - start)
        rows[row, :length] = shards.read(start, length)
    return rows


def digest_rows(rows: Rows) -> int:
    """The sum of the rows' CRC-32."""
    return sum(zlib.crc32(row.data) for row in rows)
