"""Restore spans of text that were cut out (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lm.objectives.examples import Draws, Examples, Rows, draw, to_unit

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SpanCorruption:
    """Cuts spans out of a row; the encoder reads what is left, the decoder predicts the spans.

    Each span is a sentinel in the source, and follows it in the target; both end with an end of text::

        text    the miller ground the corn and sang
        source  the <0> the corn <1> sang <end>
        target  <0> miller ground <1> and <end>

    The number of spans and of their tokens is the same for all rows, and so are the shapes. A fraction
    of the rows is cut once instead: the decoder continues what the encoder reads, up to the cut, by as
    many tokens. It trains what evaluation and generation ask for (the S-denoiser of Tay et al. 2023,
    arXiv:2205.05131)::

        source  the miller ground <0> <end>
        target  <0> the corn and

    Attributes:
        seed: of the run.
        eos: the end of text, which is also what the decoder reads first.
        first_sentinel: id of the first sentinel; the others follow.
        num_noise_tokens: tokens of a row that are cut out.
        num_spans: number of spans, and of sentinels.
        prefix_fraction: of the rows that are continued.
    """

    seed: int
    eos: int
    first_sentinel: int
    num_noise_tokens: int
    num_spans: int
    prefix_fraction: float

    def __call__(self, rows: Rows, samples: Rows) -> Examples:
        """See ``Objective``; the row's own tokens are ``[1, C + 1)``, padding is read as ends of text."""
        is_text, tokens = rows[:, 1:] >= 0, np.where(rows[:, 1:] < 0, self.eos, rows[:, 1:])
        source, targets, is_counted = self._cut_spans(tokens, is_text, samples)
        draws = to_unit(draw("prefix", self.seed, samples, 2))
        for row in np.flatnonzero(draws[:, 0] < self.prefix_fraction):
            room = tokens.shape[1] - self.num_noise_tokens + 1
            cut = int(draws[row, 1] * room)
            rest = slice(cut, cut + self.num_noise_tokens)
            source[row], targets[row], is_counted[row] = -1, self.eos, False
            source[row, : cut + 2] = [*tokens[row, :cut], self.first_sentinel, self.eos]
            targets[row, : self.num_noise_tokens + 1] = [self.first_sentinel, *tokens[row, rest]]
            is_counted[row, : self.num_noise_tokens + 1] = [True, *is_text[row, rest]]
        is_counted &= is_text.any(1, keepdims=True)
        inputs = np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=self.eos)
        return Examples(
            torch.from_numpy(inputs),
            torch.from_numpy(np.where(is_counted, targets, -1)),
            torch.from_numpy(is_text.sum(1)),
            source=torch.from_numpy(source),
        )

    def _cut_spans(self, tokens: Rows, is_text: Mask, samples: Rows) -> tuple[Rows, Rows, Mask]:
        """Return sources, targets, and which of the targets are counted."""
        count, length = tokens.shape
        cut, left = self.num_noise_tokens, length - self.num_noise_tokens
        lengths = np.empty((count, 2 * self.num_spans), np.int64)  # text and span in turns
        lengths[:, 0::2] = divide(draw("text", self.seed, samples, left - 1), self.num_spans)
        lengths[:, 1::2] = divide(draw("spans", self.seed, samples, cut - 1), self.num_spans)
        changes = np.zeros((count, length), np.int64)
        np.put_along_axis(changes, lengths[:, :-1].cumsum(1), 1, axis=1)  # all parts have tokens
        segment = changes.cumsum(1)
        is_cut = segment % 2 == 1
        starts = is_cut & (np.diff(segment, axis=1, prepend=-1) > 0)
        sentinels = self.first_sentinel + segment // 2

        end: Any = np.full((count, 1), self.eos)
        widths = left + self.num_spans, cut + self.num_spans
        source = np.where(starts, sentinels, tokens)[~is_cut | starts].reshape(count, widths[0])
        # A span's first token is two of the target: the sentinel and itself.
        pairs, kept = np.stack([sentinels, tokens], 2), np.stack([starts, is_cut], 2)
        counted = np.stack([np.ones_like(is_text), is_text], 2)[kept].reshape(count, widths[1])
        targets = np.hstack([pairs[kept].reshape(count, widths[1]), end])
        return np.hstack([source, end]), targets, np.hstack([counted, end == self.eos])


def divide(draws: Draws, parts: int) -> Rows:
    """Divide ``draws.shape[1] + 1`` things into parts of at least one, all ways equally likely.

    Returns:
        int64[n, parts], their sizes.
    """
    count, gaps = draws.shape
    order = np.argsort(draws, axis=1, kind="stable")[:, : parts - 1]
    bounds = np.sort(order, axis=1) + 1
    first, last = np.zeros((count, 1), np.int64), np.full((count, 1), gaps + 1)
    return np.diff(np.hstack([first, bounds, last]), axis=1)
