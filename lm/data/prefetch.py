"""Read ahead of a run whose token shards are in a remote store.

The data order is a function, so the blocks of future steps are known. A thread goes over these steps
for the rows of all processes and fetches blocks in the order of their first use, as many steps ahead
as the cache holds. The cache evicts blocks that none of these steps needs.
"""

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import numpy as np

from infra.errors import UserError
from infra.formats.megatron import TokenShards
from infra.store.block_cache import BLOCK_BYTES, Block
from lm.data.sampler import Sampler

SAMPLES_PER_SCAN = 8192  # that are looked up together
FETCH_THREADS = 8  # concurrent fetches, which hide the store's latency
POLL_INTERVAL_S = 0.05  # how often the run's progress is checked

log = logging.getLogger(__name__)


class ShardPrefetcher:
    """Keeps the cache of some remote token shards ahead of a run."""

    def __init__(
        self, sampler: Sampler, shards: TokenShards, start_step: int, end_step: int
    ) -> None:
        """Start to read for the steps from ``start_step`` to ``end_step``."""
        self._sampler, self._shards, self._end_step = sampler, shards, end_step
        self._current_step, self._closed = start_step, Event()
        # The last result of `_extents_for_steps`, kept while the cache has no room for it.
        self._last_scan: tuple[int, int, list[int]] = (0, 0, [])
        self._stride = max(1, SAMPLES_PER_SCAN // sampler.plan.global_batch_size)
        self._thread = Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def advance(self, step: int) -> None:
        """Report that the run has reached this step."""
        self._current_step = step

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        ahead: deque[tuple[int, int, list[int]]] = deque()  # first step, one past the last, extents
        max_blocks = self._shards.cache.max_bytes // BLOCK_BYTES
        with ThreadPoolExecutor(FETCH_THREADS, "blocks") as fetchers:
            while not self._closed.is_set():
                now = self._current_step
                while ahead and not ahead[0][0] <= now < ahead[0][1]:
                    ahead.popleft()
                head = ahead[-1][1] if ahead else now
                needed = {extent for *_, extents in ahead for extent in extents}
                if head < self._end_step:
                    end = min(head + self._stride, self._end_step)
                    wanted = self._extents_for_steps(head, end)
                    if not ahead or len(needed.union(wanted)) <= max_blocks:
                        ahead.append((head, end, wanted))
                        self._pin(needed.union(wanted))
                        self._fetch(fetchers, wanted)
                        continue
                self._pin(needed)
                self._closed.wait(POLL_INTERVAL_S)

    def _extents_for_steps(self, first: int, end: int) -> list[int]:
        """Return the remote extents that some steps need, in the order of their first use."""
        if self._last_scan[:2] == (first, end):
            return self._last_scan[2]
        samples = np.concatenate([self._sampler.samples(step) for step in range(first, end)])
        spans, bounds = self._sampler.token_spans(samples), self._shards.extent_starts
        by_use = np.argsort(spans.rows, kind="stable")
        starts, ends = spans.starts[by_use], (spans.starts + spans.lengths)[by_use]
        low = np.searchsorted(bounds, starts, side="right") - 1
        counts = np.searchsorted(bounds, ends, side="left") - low
        every = np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        extents, first_use = np.unique(every, return_index=True)
        in_order = extents[np.argsort(first_use)].tolist()
        remote = [extent for extent in in_order if self._shards.blocks[extent]]
        self._last_scan = first, end, remote
        return remote

    def _pin(self, extents: set[int]) -> None:
        blocks = [self._shards.blocks[extent] for extent in extents]
        self._shards.cache.pin({block.cache_name for block in blocks if block is not None})
        self._shards.unmap(extents)

    def _fetch(self, fetchers: ThreadPoolExecutor, extents: Sequence[int]) -> None:
        """Fetch the blocks of extents, except those that another process is fetching."""

        def fetch(block: Block) -> None:
            if not self._closed.is_set():
                self._shards.cache.fetch(block, wait=False)

        blocks, cache = [self._shards.blocks[extent] for extent in extents], self._shards.cache
        wanted = [block for block in blocks if block is not None and not cache.has(block)]
        for done in [fetchers.submit(fetch, block) for block in wanted]:
            try:
                done.result()
            except Exception as error:  # noqa: BLE001 - the reader of the block tries again, and raises
                log.warning("could not read ahead: %s", error)


def check_cache_size(sampler: Sampler, shards: TokenShards, name: str) -> None:
    """Raise ``UserError`` if the cache cannot hold the tokens that are shuffled at a time."""
    remote = sum(block.end - block.start for block in shards.blocks if block is not None)
    size = shards.dtype.itemsize
    wanted = 0
    for source, order in zip(sampler.row_sources, sampler.row_orders, strict=True):
        if order.window_blocks:
            # A block of the order is not aligned with the blocks that are read.
            run = source.tokens * order.block_rows // source.rows * size
            wanted += order.window_blocks * (-(-run // BLOCK_BYTES) + 1) * BLOCK_BYTES
        else:
            wanted += source.tokens * size
    if shards.cache.max_bytes < min(remote, wanted):
        raise UserError(
            f"train.{name}.data.shard_cache_bytes: {shards.cache.max_bytes:,} bytes do not hold what is shuffled "
            f"at a time, {min(remote, wanted):,} bytes; raise it, or lower shuffle_window_tokens"
        )
