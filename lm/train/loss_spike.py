"""The end of a run whose weights are no good any more, as all its processes agree."""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infra.errors import UserError


@dataclass
class LossDivergedError(UserError):
    """A loss that is no number, or far above what it was.

    Attributes:
        step: steps done when it was found.
        kind: ``not_finite`` or ``spike``.
        first_bad_step: the 0-based step that is to blame; it and what followed it were bad.
        loss: mean nats per token of that step.
        last_good_step: steps done at the last complete checkpoint before; ``None`` if there is none.
    """

    step: int
    kind: Literal["not_finite", "spike"]
    first_bad_step: int
    loss: float
    last_good_step: int | None

    def __str__(self) -> str:
        """What happened, and what is left."""
        kept = (
            "there is no checkpoint"
            if self.last_good_step is None
            else f"step {self.last_good_step} is kept"
        )
        return (
            f"{describe_divergence(self.kind, self.loss)} in step {self.first_bad_step + 1} (found after step {self.step}; {kept}); "
            "lower train.optim.lr or raise train.optim.warmup_fraction if it happens again"
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "step": self.step,
            "kind": self.kind,
            "first_bad_step": self.first_bad_step,
            "loss": self.loss,
            "last_good_step": self.last_good_step,
        }


def describe_divergence(kind: str, loss: float) -> str:
    """What spoilt a run, in words; of a ``not_finite`` step the loss may have been a number."""
    if kind == "spike":
        return f"the loss jumped to {loss:.3f}"
    return f"the {'gradient' if math.isfinite(loss) else 'loss'} was no number"


class LossSpikeDetector:
    """Looks at the losses that the log brings in; the same on every process."""

    WINDOW, MIN_LOSSES = 128, 32  # steps that a loss is compared with (llm.c's detector has 128)

    def __init__(
        self,
        sigma: float | None,
        latest_step: Callable[[], int | None],
        losses: Iterable[float] = (),
    ) -> None:
        """A watch that goes on from the losses of ``losses``.

        Args:
            sigma: standard deviations above the mean that are a spike; ``None``: none is.
            latest_step: gives the steps done at the newest complete checkpoint; none is written
                before the steps it holds were looked at.
            losses: ``losses`` of the run that is resumed.
        """
        self._sigma, self._latest_step = sigma, latest_step
        self._losses: deque[float] = deque(losses, maxlen=self.WINDOW)
        self._overflow_start: int | None = (
            None  # the first step of those whose norms are no numbers
        )

    @property
    def losses(self) -> list[float]:
        """What the next loss is compared with, oldest first: nats per token."""
        return [*self._losses]

    def check_training(
        self, history: Sequence[tuple[float, float]], done: int, *, check_norms: bool
    ) -> None:
        """Raise ``LossDivergedError`` if a step was bad.

        Args:
            history: (loss in nats per token, norm of the gradient) of the last steps.
            done: steps done after the last of them.
            check_norms: whether a norm that is no number is bad as well. With a scaled loss it is only
                when no scale has helped; to blame is then the first of the steps on end.
        """
        for step, (loss, norm) in enumerate(history, start=done - len(history)):
            if math.isfinite(norm):
                self._overflow_start = None
            elif self._overflow_start is None:
                self._overflow_start = step
            if not math.isfinite(loss):
                raise LossDivergedError(done, "not_finite", step, loss, self._latest_step())
            if check_norms and self._overflow_start is not None:
                raise LossDivergedError(
                    done, "not_finite", self._overflow_start, loss, self._latest_step()
                )
            if self._sigma is not None and len(self._losses) >= self.MIN_LOSSES:
                mean, spread = statistics.fmean(self._losses), statistics.pstdev(self._losses)
                if loss > mean + self._sigma * spread:
                    raise LossDivergedError(done, "spike", step, loss, self._latest_step())
            self._losses.append(loss)

    def check_validation(self, validation_loss: float, done: int) -> None:
        """Raise ``LossDivergedError`` if a validation loss is no number."""
        if not math.isfinite(validation_loss):
            raise LossDivergedError(
                done, "not_finite", done - 1, validation_loss, self._latest_step()
            )
