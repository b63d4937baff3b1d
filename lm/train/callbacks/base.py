"""The hooks of the training loop. This module does not import torch, which takes seconds."""

from collections.abc import Sequence
from typing import Any, Self

Line = dict[str, Any]  # a line of the log


class Callback:
    """Something that happens beside the updates; subclasses override the hooks that they need.

    All processes call the same hooks at the same step, in the order of the loop's list. The loop
    enters a callback before its first step and exits it, in reverse order, after its last one.
    """

    def after_step(self, step: int, *, applied: bool) -> None:
        """Run after a 0-based step; ``applied``: whether its update was, see ``LossScale``."""

    def on_metrics(self, line: Line, history: Sequence[tuple[float, float]]) -> None:
        """Run when metrics have been read, before a validation; may add to the line.

        Args:
            line: metrics of the steps since the last line.
            history: (loss in nats per token, gradient norm) of each of these steps.
        """

    def on_validation(self, line: Line) -> None:
        """Run after a validation; may add to the line. ``stopped`` in it ends the training."""

    def on_log(self, line: Line) -> None:
        """Run when the line is complete."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Release resources."""
