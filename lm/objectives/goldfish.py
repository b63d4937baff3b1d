"""Leave some tokens of every passage out of the loss, so that no passage is learned word for word.

The goldfish loss (Hans et al. 2024, arXiv:2406.10209) drops about one token in k. Which ones depends on
the tokens before them alone, so a passage that comes again, in another row or document or epoch, has
gaps in the same places: a model that continues it from memory has to guess there.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from infra.dataset.mixers import splitmix64
from lm.objectives.examples import Draws, Examples, Objective, Rows

_SALT = np.uint64(0x676F6C6466697368)  # other than those of `lm.objectives.examples.draw`


@dataclass(frozen=True)
class Goldfish:
    """An objective that predicts next tokens, without those that the goldfish loss drops.

    Attributes:
        objective: gives targets that follow their inputs, one at each position.
        k: one token in k is dropped.
        context: number of tokens before a token that decide whether it is dropped. A token with fewer
            before it in its row is never dropped.
    """

    objective: Objective
    k: int
    context: int

    def __call__(self, rows: Rows, samples: Rows) -> Examples:
        """See ``Objective``; tokens are dropped as the paper's section 3.1 says."""
        examples = self.objective(rows, samples)
        assert examples.positions is None
        assert examples.source is None
        targets = examples.targets.numpy()
        hashes = hash_windows(examples.inputs.numpy(), self.context)
        is_dropped = np.zeros(targets.shape, bool)
        is_dropped[:, self.context - 1 :] = hashes % np.uint64(self.k) == 0
        return replace(examples, targets=torch.from_numpy(np.where(is_dropped, -1, targets)))


def hash_windows(tokens: Rows, length: int) -> Draws:
    """Return a hash of each window of tokens.

    Args:
        tokens: int64[n, T], at least 0.
        length: tokens of a window.

    Returns:
        uint64[n, max(0, T - length + 1)], uniform; the first is that of ``tokens[:, :length]``.
    """
    num_windows = max(0, tokens.shape[1] - length + 1)
    hashes = np.full((len(tokens), num_windows), _SALT, np.uint64)
    for offset in range(length):
        hashes = splitmix64(tokens[:, offset : offset + num_windows].astype(np.uint64), hashes)
    return hashes
