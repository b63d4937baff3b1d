"""Which stream a sample comes from: sources by weight, exact in every cycle of samples.

Samples are numbered over the whole run. A cycle of 1,024 of them takes from each source a whole
number of samples, by the largest remainder; a keyed permutation, another one for each cycle, says
which. So any 1,024 samples that begin a cycle hold the mixture to the sample, a step of any number
knows its sources at once, and a source's rows know their samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lm.config.data import CYCLE_SAMPLES
from lm.data.shuffle import Indices, derive_round_keys, derive_round_keys_each, permute, unpermute

@dataclass(frozen=True)
class Mixture:
    """Samples to streams and back.

    Attributes:
        seed: the recipe's.
        cycle_counts: samples of a cycle by stream; sums to ``CYCLE_SAMPLES``.
    """

    seed: int
    cycle_counts: tuple[int, ...]

    def locate_samples(self, samples: Indices) -> tuple[Indices, Indices]:
        """The stream of each sample, and the sample's running number in that stream."""
        cycles = samples // CYCLE_SAMPLES
        places = permute(samples % CYCLE_SAMPLES, self._round_keys(cycles), CYCLE_SAMPLES)
        streams = np.searchsorted(self._bounds, places, side="right") - 1
        sizes = np.array(self.cycle_counts, np.int64)
        return streams, cycles * sizes[streams] + places - self._bounds[streams]

    def inverse(self, source: int, indices: Indices) -> Indices:
        """The samples that are a stream's with these running numbers."""
        cycles, ranks = indices // self.cycle_counts[source], indices % self.cycle_counts[source]
        places = unpermute(self._bounds[source] + ranks, self._round_keys(cycles), CYCLE_SAMPLES)
        return cycles * CYCLE_SAMPLES + places

    def index_bound(self, source: int, samples: int) -> int:
        """One past the largest running number that any of the first ``samples`` samples can have."""
        return -(-samples // CYCLE_SAMPLES) * self.cycle_counts[source]

    @cached_property
    def _bounds(self) -> Indices:
        return np.concatenate([[0], np.cumsum(self.cycle_counts)]).astype(np.int64)

    def _round_keys(self, cycles: Indices) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]":
        return derive_round_keys_each(derive_round_keys(("mixture", self.seed)), cycles)
