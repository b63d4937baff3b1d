"""What a model reads and what it is to predict, and draws that depend on nothing but the sample."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infra.dataset.fingerprint import json_sha256
from infra.dataset.mixers import splitmix64

Rows = npt.NDArray[np.int64]
Draws = npt.NDArray[np.uint64]
_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Examples:
    """n examples; a tensor's first axis is the example.

    Attributes:
        inputs: int64[n, T], the ids that the model reads.
        targets: int64[n, K], the ids that it is to predict; those below zero are not counted.
        num_tokens: int64[n], the tokens of text that an example was made from.
        positions: int64[n, K], where in the inputs the targets are predicted; ``None``: at each.
        source: int64[n, S], what the encoder of an encoder-decoder reads, whose decoder reads the
            inputs; ids below zero are padding.
        state: float[n, ...], of a model that carries its state from batch to batch
            (``TrainableModel.initial_state``): the state before the first input, which the model
            overwrites with that after the last.
    """

    inputs: Tensor
    targets: Tensor
    num_tokens: Tensor
    positions: Tensor | None = None
    source: Tensor | None = None
    state: Tensor | None = None

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.inputs)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Examples":
        """Return examples of which every tensor is the function of this one's."""
        tensors: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {
            name: None if tensor is None else function(tensor) for name, tensor in tensors.items()
        }
        return Examples(**changed)

    def chunk(self, count: int) -> list["Examples"]:
        """Divide them into ``count`` equal parts, in order."""
        return self.split(len(self) // count)

    def split(self, size: int) -> list["Examples"]:
        """Divide them into parts of ``size`` examples, in order; the last may be smaller."""
        starts = range(0, len(self), size)
        return [self.map(lambda t, at=start: t[at : at + size]) for start in starts]  # type: ignore[misc]

    def extra_inputs(self) -> dict[str, Tensor]:
        """Return what ``forward`` of a model takes besides inputs and targets."""
        extra = {"positions": self.positions, "source": self.source, "state": self.state}
        return {name: tensor for name, tensor in extra.items() if tensor is not None}

    def to(self, device: torch.device) -> "Examples":
        """Return them on the device; a GPU copies them while it still computes."""
        return self.map(lambda tensor: to_device(tensor, device))


class Objective(Protocol):
    """Makes examples of rows of tokens: a pure function of the rows and their samples."""

    def __call__(self, rows: Rows, samples: Rows) -> Examples:
        """Return the examples of rows.

        Args:
            rows: int64[n, C + 1], as ``lm.data.loader.Batch`` has them. The first token is only
                context: it was another row's last one. Ids below zero are padding on the right.
            samples: int64[n], the rows' numbers over all steps of the run, which stand for
                (step, row). Random choices depend on them and on the seed, so that they are the same
                for any number of processes and after a crash, and others in each epoch.
        """


def to_device(values: Tensor | npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """Return an array or a tensor on the device; a GPU copies it while it still computes."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    if device.type != "cuda":
        return tensor
    # From memory that is not pinned, the copy would wait for all earlier work.
    return tensor.pin_memory().to(device, non_blocking=True)


def draw(name: str, seed: int, samples: Rows, count: int) -> Draws:
    """Return ``count`` independent draws for each sample, uint64[n, count], uniform below 2^64.

    ``name`` says what is drawn: other draws of the same sample have other values.
    """
    (salt,) = np.frombuffer(bytes.fromhex(json_sha256([name, seed])), "<u8", count=1)
    keys = splitmix64(samples.astype(np.uint64), salt)
    counter: Any = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN_RATIO
    return splitmix64(counter[None, :], keys[:, None])


def to_unit(draws: Draws) -> npt.NDArray[np.float64]:
    """Return draws as numbers from [0, 1)."""
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53
