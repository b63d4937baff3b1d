"""Predict the label of a text, or of a pair of texts.

A row is ``[targets | ids]``: with one label per text the label, with several a 0 or 1 for each of the labels;
then the ids, padded on the right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lm.objectives.examples import Examples, Rows
from lm.objectives.text_rows import EncodedTexts, trim


@dataclass(frozen=True)
class Classification:
    """The model reads a text and predicts its label, or which of the labels it has.

    Attributes:
        num_targets: columns of a row before the ids; see ``HeadConfig``.
    """

    num_targets: int

    def __call__(self, rows: Rows, samples: Rows) -> Examples:  # noqa: ARG002 - nothing is drawn
        """See ``Objective``; the layout of rows is the module's."""
        ids = trim(rows[:, self.num_targets :])
        return Examples(
            torch.from_numpy(np.ascontiguousarray(ids)),
            torch.from_numpy(np.ascontiguousarray(rows[:, : self.num_targets])),
            torch.from_numpy((ids >= 0).sum(1)),
        )


def encode(
    texts: EncodedTexts, labels: Sequence[Sequence[str]], names: Sequence[str], *, multi_label: bool
) -> Rows:
    """Return the rows of texts and their labels.

    Args:
        texts: of ``TextEncoder.encode``.
        labels: the names of each text's labels: exactly one, or with ``multi_label`` any number.
        names: of all labels, in the order of the head.
        multi_label: whether a text may have several labels, or none.

    Raises:
        KeyError: if a label is not one of the names.
    """
    numbers = {name: number for number, name in enumerate(names)}
    targets = np.zeros((len(labels), len(names) if multi_label else 1), np.int64)
    for row, own in zip(targets, labels, strict=True):
        if multi_label:
            row[[numbers[name] for name in own]] = 1
        else:
            (name,) = own
            row[0] = numbers[name]
    return np.hstack([targets, texts.rows])
