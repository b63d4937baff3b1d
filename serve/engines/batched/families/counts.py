"""Counted n-grams: a row is the last ids."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lm.models.ngram.model import NgramModel
from serve.engines.batched.step_model import State


class NgramSteps:
    """See ``StepModel``. Rows are computed one by one, so that nothing depends on the others."""

    noise = 0.0
    keeps_every_prefix = False

    def __init__(self, model: NgramModel, rows: int) -> None:
        """Wrap a model."""
        self.vocab_size, self._model = model.vocab_size, model
        self._last: list[list[int]] = [[] for _ in range(rows)]

    def start(self, row: int, prompt: Sequence[int]) -> list[int]:
        """See ``StepModel``."""
        self._last[row] = []
        return list(prompt)

    def read(self, row: int, position: int, ids: Sequence[int], wanted: int) -> Tensor:  # noqa: ARG002
        """See ``StepModel``."""
        known = [*self._last[row], *ids]
        ends = range(len(known) - wanted + 1, len(known) + 1)
        logits = [self._predict(known[max(0, end - self._model.order) : end]) for end in ends]
        self._last[row] = known[-self._model.order :]
        return torch.stack(logits) if logits else torch.zeros(0, self.vocab_size)

    def step(self, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """See ``StepModel``."""
        pairs = enumerate(zip(ids, positions, strict=True))
        return torch.cat([self.read(row, position, [id_], 1) for row, (id_, position) in pairs])

    def _predict(self, history: list[int]) -> Tensor:
        return torch.from_numpy(np.log(self._model.distribution(history)))

    def move(self, source: int, target: int) -> None:
        """See ``StepModel``."""
        self._last[target] = self._last[source]

    def save(self, row: int, length: int) -> State:  # noqa: ARG002
        """See ``StepModel``."""
        return (torch.tensor(self._last[row]),)

    def load(self, row: int, state: State, length: int) -> None:  # noqa: ARG002
        """See ``StepModel``."""
        self._last[row] = state[0].tolist()
