"""Predict some tokens of a text from those before them, such as the answers of a conversation.

A row is ``[ids | counted]``, both of the row's maximum length: ids are padded on the right, and a token is
predicted where ``counted`` is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lm.objectives.examples import Examples, Rows
from lm.objectives.text_rows import PADDING, pad_rows, trim


@dataclass(frozen=True)
class CountedTokens:
    """The model reads all tokens and predicts those that are counted."""

    def __call__(self, rows: Rows, samples: Rows) -> Examples:  # noqa: ARG002 - nothing is drawn
        """See ``Objective``; the layout of rows is the module's."""
        width = rows.shape[1] // 2
        ids = trim(rows[:, :width])
        is_counted = rows[:, width : width + ids.shape[1]] == 1
        targets = np.where(is_counted, ids, PADDING)[:, 1:]
        return Examples(
            torch.from_numpy(np.maximum(ids[:, :-1], 0)),
            torch.from_numpy(np.ascontiguousarray(targets)),
            torch.from_numpy((ids >= 0).sum(1)),
        )


@dataclass(frozen=True)
class Counted:
    """A text.

    Attributes:
        ids: its tokens.
        is_counted: for each, whether it is predicted.
    """

    ids: Sequence[int]
    is_counted: Sequence[bool]


@dataclass(frozen=True)
class CountedRows:
    """Texts as rows.

    Attributes:
        rows: int64[n, 2 max_length].
        is_over_long: for each text, whether its end was cut.
    """

    rows: Rows
    is_over_long: list[bool]


def counted_rows(items: Sequence[Counted], max_length: int) -> CountedRows:
    """Return the rows of texts; the end of longer ones is cut."""
    ids = pad_rows([item.ids[:max_length] for item in items], max_length)
    counted = pad_rows(
        [[int(x) for x in item.is_counted[:max_length]] for item in items], max_length
    )
    return CountedRows(np.hstack([ids, counted]), [len(item.ids) > max_length for item in items])
