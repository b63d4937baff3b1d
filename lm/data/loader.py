"""Load this process's rows of each batch in the background while the model computes."""

import zlib
from collections.abc import Iterator
from contextlib import suppress
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

PREFETCH_STEPS = 4  # steps that are loaded ahead
ROWS_PER_FETCH = 256  # rows that are loaded together if steps are small
POLL_INTERVAL_S = 0.1  # how often a waiting thread checks whether to stop

Rows = npt.NDArray[np.int64]


class DataLoaderError(Exception):
    """A batch that could not be loaded on this process. No ``UserError``, which all ranks raise.

    The other ranks wait for this one until it exits and torchrun restarts all of them.
    """


@dataclass(frozen=True)
class Batch:
    """A process's rows of one step.

    Attributes:
        rows: int64[n, context + 1], inputs and, one to the right, their targets; -1 is padding.
        samples: int64[n], the rows' sample numbers; the same for any number of processes.
        digest: sum of the rows' hashes. Summed over the processes it shows whether two runs trained
            on the same tokens, for any numbers of processes.
    """

    rows: Rows
    samples: Indices
    digest: int


class DataLoader(Iterator[Batch]):
    """Yields the rows of one of several equal processes for consecutive steps, loaded ahead."""

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

        ``eos`` is the first input of packed rows; ``prefetcher`` reads remote shards ahead.
        """
        self._sampler, self._shards, self._eos, self._prefetcher = sampler, shards, eos, prefetcher
        rows_per_rank = sampler.plan.global_batch_size // world_size
        self._rank_slice = slice(rank * rows_per_rank, (rank + 1) * rows_per_rank)
        self._step = start_step  # of the next batch
        self._queue: Queue[Batch | Exception] = Queue(PREFETCH_STEPS)
        self._stop = Event()
        self._thread = Thread(target=self._run, args=(start_step,), name="data-loader", daemon=True)
        self._thread.start()

    def __next__(self) -> Batch:
        """Return the rows of the next step; raise ``DataLoaderError`` if they cannot be loaded."""
        if self._prefetcher:
            self._prefetcher.advance(self._step)
        batch = self._queue.get()
        if isinstance(batch, Exception):
            raise DataLoaderError(f"step {self._step}: {batch}") from batch
        self._step += 1
        return batch

    def close(self) -> None:
        """Stop the background threads."""
        self._stop.set()
        self._thread.join()
        if self._prefetcher:
            self._prefetcher.close()

    def _run(self, step: int) -> None:
        stride = 1  # the first step is needed soon
        while not self._stop.is_set():
            batches: list[Batch | Exception]
            try:
                batches = [*self._build_batches(step, stride)]
            except Exception as error:  # noqa: BLE001 - raised again by `__next__`
                batches = [error]
            for batch in batches:
                while not self._stop.is_set():
                    with suppress(Full):
                        self._queue.put(batch, timeout=POLL_INTERVAL_S)
                        break
            if isinstance(batches[0], Exception):
                return
            step += stride
            stride = min(2 * stride, max(1, ROWS_PER_FETCH // len(batches[0].samples)))

    def _build_batches(self, start_step: int, steps: int) -> list[Batch]:
        """Build the batches of several steps together, which spreads the cost per call."""
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
    """Build the data loader of one process of a run, from step ``start_step`` on.

    The processes of a machine share ``cache``, a folder for blocks of remote shards.

    Raises:
        TooFewTokensError: if the training split, or one source of a mixture, is shorter than a row.
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
    """Return at most ``max_tokens`` held-out tokens in a fixed set of rows, spread over the split.

    Returns:
        int64[n, context + 1]; -1 after the end of the split. No rows if the split has
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
    """Return the sum of the rows' CRC-32."""
    return sum(zlib.crc32(row.data) for row in rows)
