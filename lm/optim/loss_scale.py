"""Scaling of the loss, so that gradients in fp16 neither vanish nor overflow."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# As torch.amp.GradScaler has them.
INITIAL_SCALE, GROWTH_FACTOR, BACKOFF_FACTOR, GROWTH_INTERVAL = 65_536.0, 2.0, 0.5, 2000
MIN_SCALE = 0.5  # a scale below 1 has no use


class LossScale:
    """Dynamic loss scaling by powers of two (Micikevicius et al. 2018).

    Unlike ``torch.amp.GradScaler`` it decides once per step for all optimizers: by the norm of all
    gradients, which is the same on every process. It waits for the device once per step.

    Attributes:
        value: what the loss is multiplied by.
    """

    def __init__(self) -> None:
        """Start with a scale of 65,536."""
        self.value = INITIAL_SCALE
        self._growth_tracker = 0

    @torch.no_grad()
    def unscale(self, weights: Iterable[Tensor]) -> None:
        """Divide the gradients by the scale."""
        for weight in weights:
            assert weight.grad is not None
            weight.grad.mul_(1.0 / self.value)

    def update(self, norm: Tensor) -> bool:
        """Update the scale from the gradients' norm; return whether the step may be taken.

        A norm that is NaN or Inf skips the step and halves the scale; 2,000 steps in a row without
        one double it.
        """
        finite = bool(torch.isfinite(norm))
        self._growth_tracker = self._growth_tracker + 1 if finite else 0
        if not finite:
            self.value = max(self.value * BACKOFF_FACTOR, MIN_SCALE)
        elif self._growth_tracker == GROWTH_INTERVAL:
            self.value, self._growth_tracker = self.value * GROWTH_FACTOR, 0
        return finite

    @property
    def is_exhausted(self) -> bool:
        """Whether gradients are NaN or Inf even without scaling."""
        return self.value < 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return what ``load_state_dict`` restores."""
        return {"value": self.value, "growth_tracker": self._growth_tracker}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of another loss scale."""
        self.value, self._growth_tracker = float(state["value"]), int(state["growth_tracker"])
