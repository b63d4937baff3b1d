"""Hidden states of texts of different lengths without computing most of their padding.

On a CPU a padded position costs as much as any other. So the texts of a batch are sorted by length, and groups
of them are computed one after the other, each as wide as its longest text. A text's result depends neither on
the others nor on padding, and its dropout on its own key alone, so only the rounding differs. A GPU is faster
with one large batch.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import functional as F  # noqa: N812

from lm.models.neural_lm import NeuralLM
from lm.objectives.text_rows import round_length

GROUP_POSITIONS = 64  # what a group costs by itself, the calls of its operations, in positions
MAX_GROUPS = 8


def text_states(base: NeuralLM, tokens_bt: Tensor, dropout_keys_b: Tensor | None) -> Tensor:
    """Return ``base.text_states``, float[B, T, D]; zeros at positions that were not computed.

    Args:
        base: a model of any family.
        tokens_bt: ids; those below zero are padding on the right.
        dropout_keys_b: see ``NeuralLM.forward``.
    """
    if tokens_bt.device.type != "cpu" or torch.compiler.is_compiling() or _is_sharded(base):
        return base.text_states(tokens_bt, dropout_keys_b)
    order_b, groups = split_by_length((tokens_bt >= 0).sum(1).numpy())
    if len(groups) == 1:
        return base.text_states(tokens_bt, dropout_keys_b)
    width = tokens_bt.shape[1]
    states = []
    for members, length in groups:
        own = torch.from_numpy(members)
        keys = None if dropout_keys_b is None else dropout_keys_b[own]
        part_btd = base.text_states(tokens_bt[own, : min(length, width)], keys)
        states.append(F.pad(part_btd, (0, 0, 0, width - part_btd.shape[1])))
    return torch.cat(states)[torch.from_numpy(np.argsort(order_b))]


def _is_sharded(base: NeuralLM) -> bool:
    """Whether processes exchange weights in each pass: all have to make the same number of passes."""
    return any(isinstance(weight, DTensor) for weight in base.parameters())


def split_by_length(
    lengths_b: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], list[tuple[npt.NDArray[np.int64], int]]]:
    """Return the texts in order of their lengths, and groups of them, each with its width.

    The number of groups is the one with the fewest positions, what the groups cost by themselves included;
    all groups have about as many texts.
    """
    order_b = np.argsort(lengths_b, kind="stable")

    def divide(count: int) -> list[tuple[npt.NDArray[np.int64], int]]:
        parts = np.array_split(order_b, count)
        return [(members, round_length(max(1, int(lengths_b[members[-1]])))) for members in parts]

    def cost(groups: list[tuple[npt.NDArray[np.int64], int]]) -> int:
        return sum(len(members) * width + GROUP_POSITIONS for members, width in groups)

    return order_b, min(map(divide, range(1, min(MAX_GROUPS, len(lengths_b)) + 1)), key=cost)
