"""Bring a query's vector near that of the text that answers it, and away from all others.

A row is ``[query | positive | negative ...]``: texts of one width, each padded on the right; its positive once more
stands for a negative that it does not have. Examples have all texts of a row side by side, trimmed to one length.
The other rows' texts are negatives, too (``lm.models.heads.losses.contrastive_loss``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lm.objectives.examples import Examples, Rows
from lm.objectives.text_rows import EncodedTexts, trim


@dataclass(frozen=True)
class Contrastive:
    """The model makes vectors of texts; each query is to find its positive.

    Attributes:
        num_negatives: of each row.
    """

    num_negatives: int = 0

    def __call__(self, rows: Rows, samples: Rows) -> Examples:  # noqa: ARG002 - nothing is drawn
        """See ``Objective``; the layout of rows is the module's."""
        texts = rows.reshape(len(rows) * (2 + self.num_negatives), -1)
        ids = np.ascontiguousarray(trim(texts)).reshape(len(rows), -1)
        return Examples(
            torch.from_numpy(ids),
            torch.zeros(len(rows), 1, dtype=torch.int64),
            torch.from_numpy((ids >= 0).sum(1)),
        )


def encode(
    queries: EncodedTexts, positives: EncodedTexts, negatives: Sequence[EncodedTexts]
) -> Rows:
    """Return the rows of queries, positives and, for each of several numbers, all rows' negatives."""
    return np.hstack([queries.rows, positives.rows, *(texts.rows for texts in negatives)])
