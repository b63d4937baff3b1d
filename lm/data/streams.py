"""The order of rows for a model that carries its state: each place of the batch reads its own stream.

The rows of a row source, in the order of the text, form a ring. With R rows and B places, place p starts
``floor(p R / B)`` rows after a row that the seed chooses, and each batch takes it one row on. So every
stream is continuous, except where the text's end meets its start, and after an epoch it enters the stream
of the next place: no row is left out, and the rows of any step, and the steps of any row, are computed
directly, on any number of processes.
"""

from dataclasses import dataclass

import numpy as np

from infra.dataset.fingerprint import json_sha256
from lm.data.shuffle import Indices


@dataclass(frozen=True)
class StreamOrder:
    """The order of one row source of ``rows`` rows, for batches of ``batch_size`` rows."""

    seed: int
    rows: int
    batch_size: int

    @property
    def block_rows(self) -> int:
        """Consecutive rows that are read together, see ``ShuffleOrder``."""
        return 1

    @property
    def window_blocks(self) -> int:
        """Places of the text that are read at a time."""
        return self.batch_size

    def rows_at(self, indices: Indices) -> Indices:
        """Return the rows at some indices; index ``i`` is place ``i % batch_size`` of a batch."""
        batches, places = np.divmod(indices, self.batch_size)
        rows: Indices = (self._starts()[places] + batches) % self.rows
        return rows

    def inverse(self, rows: Indices, end: int) -> Indices:
        """Return the indices below ``end`` of any of these rows, ascending."""
        first_batches = (rows[:, None] - self._starts()) % self.rows
        laps = np.arange(-(-end // (self.batch_size * self.rows)))
        batches = first_batches + laps[:, None, None] * self.rows
        indices: Indices = np.unique(batches * self.batch_size + np.arange(self.batch_size))
        return indices[indices < end]

    def _starts(self) -> Indices:
        """Return the row with which each place starts, int64[batch_size]."""
        first = int(json_sha256(["streams", self.seed])[:12], 16) % self.rows
        starts: Indices = first + np.arange(self.batch_size) * self.rows // self.batch_size
        return starts
