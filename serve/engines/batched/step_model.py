"""What the scheduler asks of a family: read a prompt into a row, then a token per row and step.

Rows hold what sequences have read: keys and values, a recurrent state, an encoded source. Shape letters: B rows,
N tokens, T positions, D hidden size, V vocabulary, L layers, R rows in all.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

# Two ways to compute one logit in fp32, alone or among other rows, differ by less: by 3e-6 at most in the tests'
# models, by more in deeper ones.
FP32_NOISE = 1e-4

State = tuple[Tensor, ...]


class StepModel(Protocol):
    """A model that generates token by token; methods are called under ``torch.inference_mode``."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def noise(self) -> float:
        """How much a logit may depend on what else is computed with it."""

    def start(self, row: int, prompt: Sequence[int]) -> list[int]:
        """Forget what a row held; return the tokens to read before the first one is generated."""

    def read(self, row: int, position: int, ids: Sequence[int], wanted: int) -> Tensor:
        """Read tokens into a row that has read ``position`` of them.

        Returns:
            float[wanted, V]: logits after each of the last ``wanted`` tokens.
        """

    def step(self, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Read a token into each of the first rows, which have read ``positions``; return logits float[B, V]."""

    def move(self, source: int, target: int) -> None:
        """Copy what a row holds to another one."""


class PrefixModel(StepModel, Protocol):
    """A model whose state after a prompt can be kept: one that reads from left to right."""

    @property
    def keeps_every_prefix(self) -> bool:
        """Whether the state after some tokens holds the states after fewer of them."""

    def save(self, row: int, length: int) -> State:
        """Return a copy of a row's state, after ``length`` tokens."""

    def load(self, row: int, state: State, length: int) -> None:
        """Set a row to its state after the first ``length`` tokens of those of ``save``."""
