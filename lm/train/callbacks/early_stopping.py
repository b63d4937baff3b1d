"""Early stopping: Prechelt 1998, "Early stopping, but when?"."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lm.train.callbacks.base import Callback, Line
from lm.train.state import State

BEST_KEYS = ("best_validation_loss", "best_step")  # in every line after the first validation


class EarlyStopping(Callback):
    """Stop when the validation loss has not improved for a number of steps; keep the best weights."""

    def __init__(
        self, state: State, patience_steps: int, min_delta: float, line: Mapping[str, Any]
    ) -> None:
        """Continue after a line of the log.

        Args:
            state: gets the best weights.
            patience_steps: steps without an improvement after which training stops.
            min_delta: smallest decrease of the loss, in nats per token, that is an improvement.
            line: the last one before the first step; may be empty.
        """
        self._state, self._patience_steps, self._min_delta = state, patience_steps, min_delta
        self._best: Line = {name: line[name] for name in BEST_KEYS if name in line}

    def on_metrics(self, line: Line, history: Sequence[tuple[float, float]]) -> None:  # noqa: ARG002
        """Repeat the best validation so far."""
        line |= self._best

    def on_validation(self, line: Line) -> None:
        """Save the weights of a better validation; stop after too many that are not."""
        loss, step = line["validation_loss"], line["step"]
        if loss < self._best.get("best_validation_loss", math.inf) - self._min_delta:
            self._state.save_best()
            self._best = {"best_validation_loss": loss, "best_step": step}
            line |= self._best
        elif step - self._best["best_step"] >= self._patience_steps:
            line["stopped"] = "early"
