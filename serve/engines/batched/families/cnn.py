"""Gated convolutions: a row is each layer's last inputs. Letters as in ``serve.engines.batched.step_model``."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lm.models.cnn.config import ConvolutionConfig
from serve.engines.batched.step_model import FP32_NOISE, State


class CNNSteps:
    """See ``StepModel``; W - 1 inputs of each layer are kept, where W is the kernel's size."""

    noise = FP32_NOISE
    keeps_every_prefix = False

    def __init__(self, config: ConvolutionConfig, weights: Mapping[str, Tensor], rows: int) -> None:
        """Take over trained weights, and make room for ``rows`` sequences."""
        self.vocab_size, self._eps, self._width = (
            config.vocab_size,
            config.norm_eps,
            config.kernel_size,
        )
        kept = config.kernel_size - 1
        self._inputs = torch.zeros(config.num_layers, rows, kept, config.hidden_size)
        self._layers = [
            (
                weights[f"blocks.{layer}.norm.weight"],
                weights[f"blocks.{layer}.conv.bias"],
                weights[f"blocks.{layer}.conv.weight"].T.contiguous(),
            )
            for layer in range(config.num_layers)
        ]
        self._norm_weight = weights["norm.weight"]
        self._embedding = weights["embed.weight"]
        self._head = weights.get("head.weight", self._embedding).T.contiguous()

    def start(self, row: int, prompt: Sequence[int]) -> list[int]:
        """See ``StepModel``: zeros stand for what is before a text."""
        self._inputs[:, row] = 0
        return list(prompt)

    def read(self, row: int, position: int, ids: Sequence[int], wanted: int) -> Tensor:  # noqa: ARG002
        """See ``StepModel``."""
        x_nd = self._embedding[torch.tensor(ids)]
        for number, (_, bias, kernel) in enumerate(self._layers):
            known = torch.cat([self._inputs[number, row], self._norm(x_nd, number)])
            self._inputs[number, row] = known[len(ids) :]
            windows = known.unfold(0, self._width, 1).transpose(1, 2).flatten(1)
            x_nd = x_nd + F.glu(torch.addmm(bias, windows, kernel))
        return self._predict(x_nd[len(ids) - wanted :])

    def step(self, ids: Sequence[int], positions: Sequence[int]) -> Tensor:  # noqa: ARG002
        """See ``StepModel``."""
        batch = len(ids)
        x_bd = self._embedding[torch.tensor(ids)]
        for number, (_, bias, kernel) in enumerate(self._layers):
            kept = self._inputs[number, :batch]
            known = torch.cat([kept, self._norm(x_bd, number)[:, None]], dim=1)
            kept.copy_(known[:, 1:])
            x_bd = x_bd + F.glu(torch.addmm(bias, known.flatten(1), kernel))
        return self._predict(x_bd)

    def _norm(self, x_nd: Tensor, number: int) -> Tensor:
        weight = self._layers[number][0]
        return F.rms_norm(x_nd, weight.shape, weight, self._eps)

    def _predict(self, x_nd: Tensor) -> Tensor:
        weight = self._norm_weight
        return torch.mm(F.rms_norm(x_nd, weight.shape, weight, self._eps), self._head)

    def move(self, source: int, target: int) -> None:
        """See ``StepModel``."""
        self._inputs[:, target] = self._inputs[:, source]

    def save(self, row: int, length: int) -> State:  # noqa: ARG002
        """See ``StepModel``."""
        return (self._inputs[:, row].clone(),)

    def load(self, row: int, state: State, length: int) -> None:  # noqa: ARG002
        """See ``StepModel``."""
        self._inputs[:, row] = state[0]
