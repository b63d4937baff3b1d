"""Scaling of the loss, so that gradients in fp16 neither vanish nor overflow."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# As torch.amp.GradScaler has them.
FIRST, GROWTH, BACKOFF, EVERY = 65_536.0, 2.0, 0.5, 2000
LEAST = 0.5  # below 1 nothing is gained by scaling


class LossScale:
    """A power of two that follows what the gradients bear (Micikevicius et al. 2018).

    Unlike ``torch.amp.GradScaler`` it decides once per step for all optimizers: by the norm of all
    gradients, which is the same on every process. It waits for the device once per step.

    Attributes:
        value: what the loss is multiplied by.
    """

    def __init__(self) -> None:
        """Begin with 65,536."""
        self.value = FIRST
        self._since = 0

    @torch.no_grad()
    def unscale(self, weights: Iterable[Tensor]) -> None:
        """Bring the gradients back to their size."""
        for weight in weights:
            assert weight.grad is not None
            weight.grad.mul_(1.0 / self.value)

    def bears(self, norm: Tensor) -> bool:
        """Whether the step may be taken, by the norm of its gradients; the scale follows.

        Halved if not, doubled after 2,000 steps that could be.
        """
        finite = bool(torch.isfinite(norm))
        self._since = self._since + 1 if finite else 0
        if not finite:
            self.value = max(self.value * BACKOFF, LEAST)
        elif self._since == EVERY:
            self.value, self._since = self.value * GROWTH, 0
        return finite

    @property
    def lost(self) -> bool:
        """Whether no scale helps: gradients are no numbers, or too large, without any."""
        return self.value < 1.0

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` wants back."""
        return {"value": self.value, "since": self._since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as another one left off."""
        self.value, self._since = float(state["value"]), int(state["since"])
