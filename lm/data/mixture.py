"""Which source a sample comes from: sources by weight, exact in every cycle of samples.

A cycle of 1,024 samples takes a whole number of samples from each source; a keyed permutation,
different in each cycle, decides which. Both directions are computed without a table: the source of a
sample, and the samples of a source's rows.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lm.config.data import CYCLE_SAMPLES
from lm.data.shuffle import Indices, derive_round_keys, derive_round_keys_each, permute, unpermute


@dataclass(frozen=True)
class Mixture:
    """Map samples to row sources and back."""

    seed: int
    cycle_counts: tuple[int, ...]  # samples of a cycle by row source; sums to CYCLE_SAMPLES

    def locate_samples(self, samples: Indices) -> tuple[Indices, Indices]:
        """Return the row source of each sample, and the sample's index in that source."""
        cycles = samples // CYCLE_SAMPLES
        slots = permute(samples % CYCLE_SAMPLES, self._round_keys(cycles), CYCLE_SAMPLES)
        sources = np.searchsorted(self._bounds, slots, side="right") - 1
        sizes = np.array(self.cycle_counts, np.int64)
        return sources, cycles * sizes[sources] + slots - self._bounds[sources]

    def inverse(self, source: int, indices: Indices) -> Indices:
        """Return the samples at these indices of a row source."""
        cycles, ranks = indices // self.cycle_counts[source], indices % self.cycle_counts[source]
        slots = unpermute(self._bounds[source] + ranks, self._round_keys(cycles), CYCLE_SAMPLES)
        return cycles * CYCLE_SAMPLES + slots

    def index_bound(self, source: int, samples: int) -> int:
        """Return an upper bound of a source's indices among the first ``samples`` samples."""
        return -(-samples // CYCLE_SAMPLES) * self.cycle_counts[source]

    @cached_property
    def _bounds(self) -> Indices:
        return np.concatenate([[0], np.cumsum(self.cycle_counts)]).astype(np.int64)

    def _round_keys(self, cycles: Indices) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]":
        return derive_round_keys_each(derive_round_keys(("mixture", self.seed)), cycles)
