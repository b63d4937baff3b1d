"""Recurrent models: a row is the state of every layer. Letters as in ``serve.engines.batched.step_model``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lm.models.recurrent.sections import RecurrentConfig
from serve.engines.batched.step_model import FP32_NOISE, State

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
CELLS: Mapping[str, Callable[..., Any]] = {
    "rnn": torch.rnn_tanh_cell,
    "gru": torch.gru_cell,
    "lstm": torch.lstm_cell,
}
SCANS: Mapping[str, Callable[..., Any]] = {
    "rnn": torch.rnn_tanh,
    "gru": torch.gru,
    "lstm": torch.lstm,
}


class RecurrentSteps:
    """See ``StepModel``; an LSTM's state is two vectors per layer."""

    noise = FP32_NOISE
    keeps_every_prefix = False

    def __init__(self, config: RecurrentConfig, weights: Mapping[str, Tensor], rows: int) -> None:
        """Take over trained weights, and make room for ``rows`` sequences."""
        self.vocab_size, self._kind = config.vocab_size, config.architecture
        layers, size = config.num_layers, config.hidden_size
        self._states = [
            torch.zeros(layers, rows, size) for _ in range(2 if self._kind == "lstm" else 1)
        ]
        self._layers = [
            [weights[f"blocks.{layer}.{name}"] for name in PARAMETERS] for layer in range(layers)
        ]
        self._flat = [weight for layer in self._layers for weight in layer]
        self._embedding = weights["embed.weight"]
        self._head = weights.get("head.weight", self._embedding).T.contiguous()
        self._bias = weights["head.bias"]

    def start(self, row: int, prompt: Sequence[int]) -> list[int]:
        """See ``StepModel``."""
        for state in self._states:
            state[:, row] = 0
        return list(prompt)

    def read(self, row: int, position: int, ids: Sequence[int], wanted: int) -> Tensor:  # noqa: ARG002
        """See ``StepModel``."""
        start = [state[:, row : row + 1].contiguous() for state in self._states]
        inputs = self._embedding[torch.tensor(ids)][None]
        settings = (self._flat, True, len(self._layers), 0.0, False, False, True)
        first = start if self._kind == "lstm" else start[0]
        hidden, *ends = SCANS[self._kind](inputs, first, *settings)
        for state, end in zip(self._states, ends, strict=True):
            state[:, row] = end[:, 0]
        return torch.addmm(self._bias, hidden[0, len(ids) - wanted :], self._head)

    def step(self, ids: Sequence[int], positions: Sequence[int]) -> Tensor:  # noqa: ARG002
        """See ``StepModel``."""
        batch, cell = len(ids), CELLS[self._kind]
        x_bd = self._embedding[torch.tensor(ids)]
        for number, parameters in enumerate(self._layers):
            before = [state[number, :batch] for state in self._states]
            if self._kind == "lstm":
                after = cell(x_bd, before, *parameters)
            else:
                after = (cell(x_bd, before[0], *parameters),)
            for state, new in zip(before, after, strict=True):
                state.copy_(new)
            x_bd = after[0]
        return torch.addmm(self._bias, x_bd, self._head)

    def move(self, source: int, target: int) -> None:
        """See ``StepModel``."""
        for state in self._states:
            state[:, target] = state[:, source]

    def save(self, row: int, length: int) -> State:  # noqa: ARG002
        """See ``StepModel``."""
        return tuple(state[:, row].clone() for state in self._states)

    def load(self, row: int, state: State, length: int) -> None:  # noqa: ARG002
        """See ``StepModel``."""
        for own, saved in zip(self._states, state, strict=True):
            own[:, row] = saved
