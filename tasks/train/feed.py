"""From a step's number to this process's share of its batch."""

import zlib

import numpy as np
import numpy.typing as npt

from infra.tokens import TokenShards
from tasks.train.order import Order

Rows = npt.NDArray[np.int64]


class Feed:
    """The share that one of several equal processes has in every batch."""

    def __init__(
        self, shards: TokenShards, order: Order, context: int, rank: int, world: int
    ) -> None:
        """Serve rank ``rank`` of ``world``; rows are ``context + 1`` tokens long."""
        self._shards, self._order, self._context = shards, order, context
        share = order.batch // world
        self._mine = slice(rank * share, (rank + 1) * share)

    def rows(self, step: int) -> tuple[Rows, int]:
        """The rows of a 0-based step and their digest.

        Returns:
            int64[batch / world, context + 1], inputs and, one to the right, their targets; and
            the sum of the rows' hashes. Summed over the processes it tells whether two runs saw
            the same tokens, however many processes each had.
        """
        windows = self._order.at(step)[self._mine]
        rows = self._shards.windows(windows * self._context, self._context + 1)
        return rows, sum(zlib.crc32(row) for row in rows)


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
