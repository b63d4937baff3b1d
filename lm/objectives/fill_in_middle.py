"""Fill in what is missing in the middle of a text, such as a program (Bavarian et al. 2022, arXiv:2207.14255).

A row is a text's ids, padded on the right. A fraction of the rows is cut at two random places, anew in each
epoch, and its middle moved to the end; in half of these the suffix comes first (the paper's section 3)::

    <end> <prefix> a <suffix> c <middle> b <end>
    <end> <prefix> <suffix> c <middle> a b <end>

The others stay ``<end> a b c <end>``. All tokens but the first are predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lm.objectives.examples import Examples, Rows, draw, to_unit
from lm.objectives.text_rows import TextEncoder, pad_rows, trim

PREFIX, SUFFIX, MIDDLE = "<fim_prefix>", "<fim_suffix>", "<fim_middle>"  # as StarCoder spells them
ADDED_TOKENS = (PREFIX, SUFFIX, MIDDLE)
EXTRA_TOKENS = 5  # the three, and the ends of text


@dataclass(frozen=True)
class FillInMiddle:
    """The model continues texts, some of which have their middle at the end.

    Attributes:
        seed: of the run.
        eos_id: the end of text.
        mark_ids: of ``ADDED_TOKENS``.
        fraction: of the rows that are cut.
    """

    seed: int
    eos_id: int
    mark_ids: tuple[int, int, int]
    fraction: float = 0.5

    def __call__(self, rows: Rows, samples: Rows) -> Examples:
        """See ``Objective``; the layout of rows is the module's."""
        draws = to_unit(draw("fill in the middle", self.seed, samples, 4))
        texts = []
        for row, (is_cut, first, second, suffix_first) in zip(rows, draws, strict=True):
            ids = row[row >= 0]
            if is_cut < self.fraction:
                start, end = sorted(int(at * (len(ids) + 1)) for at in (first, second))
                ids = self.move_middle(ids, start, end, suffix_first=suffix_first < 0.5)
            texts.append([self.eos_id, *ids.tolist(), self.eos_id])
        ids = trim(pad_rows(texts, rows.shape[1] + EXTRA_TOKENS))
        return Examples(
            torch.from_numpy(np.maximum(ids[:, :-1], 0)),
            torch.from_numpy(np.ascontiguousarray(ids[:, 1:])),
            torch.from_numpy((ids >= 0).sum(1)),
        )

    def move_middle(
        self, ids: npt.NDArray[np.int64], start: int, end: int, *, suffix_first: bool
    ) -> npt.NDArray[np.int64]:
        """Return a text with its middle ``[start, end)`` at the end."""
        prefix, suffix, middle = ([mark] for mark in self.mark_ids)
        before, within, after = ids[:start], ids[start:end], ids[end:]
        if suffix_first:
            parts = [prefix, suffix, after, middle, before, within]
        else:
            parts = [prefix, before, suffix, after, middle, within]
        return np.concatenate([np.asarray(part, np.int64) for part in parts])


@dataclass(frozen=True)
class EncodedPieces:
    """Texts as rows, a longer one as several.

    Attributes:
        rows: int64[n, max_length - 5]: the objective adds five tokens.
        text: int64[n], the number of each row's text.
    """

    rows: Rows
    text: npt.NDArray[np.int64]


def encode(encoder: TextEncoder, texts: Sequence[str], max_length: int) -> EncodedPieces:
    """Return the rows of texts; a longer one is divided into pieces."""
    width = max_length - EXTRA_TOKENS
    pieces, owners = [], []
    for number, text in enumerate(texts):
        ids = [token for token, _ in encoder.encode_plain(text)]
        for start in range(0, max(1, len(ids)), width):
            pieces.append(ids[start : start + width])
            owners.append(number)
    return EncodedPieces(pad_rows(pieces, width), np.array(owners, np.int64))
