"""Predict every token from those before it."""

import numpy as np
import torch

from lm.objectives.examples import Examples, Rows


class Causal:
    """The model reads tokens ``[0, C)`` of a row and predicts at each the one that follows."""

    def __call__(self, rows: Rows, samples: Rows) -> Examples:  # noqa: ARG002 - nothing is drawn
        """See ``Objective``. The padding stays in the targets; in the inputs it becomes 0."""
        inputs = torch.from_numpy(np.maximum(rows[:, :-1], 0))
        targets = torch.from_numpy(np.ascontiguousarray(rows[:, 1:]))
        return Examples(inputs, targets, (targets >= 0).sum(1))
