"""Detect NaN losses and loss spikes; all processes raise the same error."""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from infra.errors import UserError
from lm.train.callbacks import Callback, Line

Kind = Literal["not_finite", "spike"]


@dataclass
class LossDivergedError(UserError):
    """A loss that is NaN, infinite or far above the ones before it.

    Attributes:
        step: steps done when it was detected.
        kind: ``not_finite`` or ``spike``.
        first_bad_step: the first 0-based step whose loss or gradient was bad.
        loss: of that step, in nats per token.
        last_good_step: steps done at the last complete checkpoint; ``None`` if there is none.
    """

    step: int
    kind: Kind
    first_bad_step: int
    loss: float
    last_good_step: int | None

    def __str__(self) -> str:
        """Describe what happened, and the checkpoint that is left."""
        checkpoint = (
            "there is no checkpoint"
            if self.last_good_step is None
            else f"the last checkpoint is of step {self.last_good_step}"
        )
        return (
            f"{describe_divergence(self.kind, self.loss)} in step {self.first_bad_step + 1} "
            f"(detected after step {self.step}; {checkpoint}); "
            "lower optim.lr or raise optim.warmup_fraction if it happens again"
        )


def describe_divergence(kind: str, loss: float) -> str:
    """Return what happened in words; if the gradient was not finite, the loss may be a number."""
    if kind == "spike":
        return f"the loss spiked to {loss:.3f}"
    if math.isfinite(loss):
        return "the gradient was not finite"
    return "the loss was NaN" if math.isnan(loss) else "the loss was infinite"


class LossSpikeDetector(Callback):
    """Checks every loss that is logged; the result is the same on every process."""

    WINDOW, MIN_LOSSES = 128, 32  # steps that a loss is compared with, as in llm.c's detector

    def __init__(
        self,
        sigma: float | None,
        latest_step: Callable[[], int | None],
        losses: Iterable[float] = (),
        *,
        check_norms: Callable[[], bool] = lambda: True,
    ) -> None:
        """Continue after the losses of a resumed run.

        Args:
            sigma: standard deviations above the mean that are a spike; ``None``: nothing is.
            latest_step: returns the steps done at the newest complete checkpoint, which holds only
                steps that were checked.
            losses: ``losses`` of the resumed run.
            check_norms: returns whether a gradient norm that is not finite is an error. With a
                scaled loss it is only when no scale helps; the first bad step is then the first of
                the last uninterrupted run of such steps.
        """
        self._sigma, self._latest_step, self._check_norms = sigma, latest_step, check_norms
        self._losses: deque[float] = deque(losses, maxlen=self.WINDOW)
        self._overflow_start: int | None = None  # first of the last steps without a finite norm

    @property
    def losses(self) -> list[float]:
        """What the next loss is compared with, oldest first: nats per token."""
        return [*self._losses]

    def on_metrics(self, line: Line, history: Sequence[tuple[float, float]]) -> None:
        """Raise ``LossDivergedError`` if a step was bad."""
        done = line["step"]
        check_norms = self._check_norms()
        for step, (loss, norm) in enumerate(history, start=done - len(history)):
            if math.isfinite(norm):
                self._overflow_start = None
            elif self._overflow_start is None:
                self._overflow_start = step
            if not math.isfinite(loss):
                raise self._error(done, "not_finite", step, loss)
            if check_norms and self._overflow_start is not None:
                raise self._error(done, "not_finite", self._overflow_start, loss)
            if self._is_spike(loss):
                raise self._error(done, "spike", step, loss)
            self._losses.append(loss)

    def on_validation(self, line: Line) -> None:
        """Raise ``LossDivergedError`` if the validation loss is not finite."""
        loss, done = line["validation_loss"], line["step"]
        if not math.isfinite(loss):
            raise self._error(done, "not_finite", done - 1, loss)

    def _is_spike(self, loss: float) -> bool:
        if self._sigma is None or len(self._losses) < self.MIN_LOSSES:
            return False
        mean, deviation = statistics.fmean(self._losses), statistics.pstdev(self._losses)
        return loss > mean + self._sigma * deviation

    def _error(self, done: int, kind: Kind, step: int, loss: float) -> LossDivergedError:
        return LossDivergedError(done, kind, step, loss, self._latest_step())
