"""Predict masked tokens from all others (Devlin et al. 2019, arXiv:1810.04805, section 3.1)."""

from dataclasses import dataclass

import numpy as np
import torch

from lm.objectives.examples import Examples, Rows, draw, to_unit

MASKED, REPLACED = 0.8, 0.1  # of the chosen tokens; the others stay, and are predicted all the same


@dataclass(frozen=True)
class MaskedTokens:
    """Chooses a fraction of a row's tokens; of these it masks 80 % and replaces 10 % at random.

    The number of predictions is the same for all full rows, as in the paper's code, so that the head
    computes no others. An end of text is never chosen, nor put in another token's place: it divides
    documents. Every epoch chooses others (Liu et al. 2019, arXiv:1907.11692, section 4.1).

    Attributes:
        seed: of the run.
        mask_id: the id that masks; ids below it are text.
        eos: the end of text.
        fraction: of the tokens that are chosen.
    """

    seed: int
    mask_id: int
    eos: int
    fraction: float

    def __call__(self, rows: Rows, samples: Rows) -> Examples:
        """See ``Objective``; the row's own tokens are ``[1, C + 1)``, padding is read as ends of text."""
        tokens = rows[:, 1:]
        length = tokens.shape[1]
        count = max(1, round(self.fraction * length))
        can_mask = (tokens >= 0) & (tokens != self.eos)
        wanted = np.ceil(self.fraction * can_mask.sum(1, keepdims=True))
        is_chosen = np.arange(count) < np.minimum(wanted, count)
        order = draw("mask", self.seed, samples, length)
        order[~can_mask] = np.iinfo(np.uint64).max
        positions = np.argsort(order, axis=1, kind="stable")[:, :count]
        chosen = np.take_along_axis(tokens, positions, axis=1)

        kind = to_unit(draw("mask kind", self.seed, samples, count))
        others = draw("mask replacement", self.seed, samples, count) % np.uint64(self.mask_id - 1)
        replacement = others.astype(np.int64)
        replacement += replacement >= self.eos
        shown = np.where(kind < MASKED, self.mask_id, chosen)
        shown = np.where((kind >= MASKED) & (kind < MASKED + REPLACED), replacement, shown)
        inputs = np.where(tokens < 0, self.eos, tokens)
        kept = np.take_along_axis(inputs, positions, axis=1)
        np.put_along_axis(inputs, positions, np.where(is_chosen, shown, kept), axis=1)
        return Examples(
            torch.from_numpy(inputs),
            torch.from_numpy(np.where(is_chosen, chosen, -1)),
            torch.from_numpy((tokens >= 0).sum(1)),
            positions=torch.from_numpy(positions),
        )
