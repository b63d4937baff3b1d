"""The end of a run whose weights are no good any more, as all its processes agree."""

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infra.errors import UserError


@dataclass
class Spoilt(UserError):
    """A loss that is no number, or far above what it was.

    Attributes:
        step: steps done when it was found.
        kind: ``not_finite`` or ``spike``.
        first: the 0-based step that is to blame; it and what followed it were bad.
        loss: mean nats per token of that step.
        good: steps done at the last complete checkpoint before; ``None`` if there is none.
    """

    step: int
    kind: Literal["not_finite", "spike"]
    first: int
    loss: float
    good: int | None

    def __str__(self) -> str:
        """What happened, and what is left."""
        kept = "there is no checkpoint" if self.good is None else f"step {self.good} is kept"
        return (
            f"{happened(self.kind, self.loss)} in step {self.first + 1} (found after step {self.step}; {kept}); "
            "lower train.learning_rate or raise train.warmup if it happens again"
        )

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "step": self.step,
            "kind": self.kind,
            "first": self.first,
            "loss": self.loss,
            "good": self.good,
        }


def happened(kind: str, loss: float) -> str:
    """What spoilt a run, in words; of a ``not_finite`` step the loss may have been a number."""
    if kind == "spike":
        return f"the loss jumped to {loss:.3f}"
    return f"the {'gradient' if math.isfinite(loss) else 'loss'} was no number"


class Watch:
    """Looks at the losses that the log brings in; the same on every process."""

    WINDOW, LEAST = 128, 32  # steps that a loss is compared with (llm.c's detector has 128)

    def __init__(
        self,
        factor: float | None,
        newest: Callable[[], int | None],
        before: Iterable[float] = (),
    ) -> None:
        """A watch that goes on from the losses of ``before``.

        Args:
            factor: standard deviations above the mean that are a spike; ``None``: none is.
            newest: gives the steps done at the newest complete checkpoint; none is written
                before the steps it holds were looked at.
            before: ``losses`` of the run that is resumed.
        """
        self._factor, self._newest = factor, newest
        self._before: deque[float] = deque(before, maxlen=self.WINDOW)
        self._overflown: int | None = None  # the first step of those whose norms are no numbers

    @property
    def losses(self) -> list[float]:
        """What the next loss is compared with, oldest first: nats per token."""
        return [*self._before]

    def look(self, history: Sequence[tuple[float, float]], done: int, *, norms: bool) -> None:
        """Raise ``Spoilt`` if a step was bad.

        Args:
            history: (loss in nats per token, norm of the gradient) of the last steps.
            done: steps done after the last of them.
            norms: whether a norm that is no number is bad as well. With a scaled loss it is only
                when no scale has helped; to blame is then the first of the steps on end.
        """
        for step, (loss, norm) in enumerate(history, start=done - len(history)):
            if math.isfinite(norm):
                self._overflown = None
            elif self._overflown is None:
                self._overflown = step
            if not math.isfinite(loss):
                raise Spoilt(done, "not_finite", step, loss, self._newest())
            if norms and self._overflown is not None:
                raise Spoilt(done, "not_finite", self._overflown, loss, self._newest())
            if self._factor is not None and len(self._before) >= self.LEAST:
                mean, spread = statistics.fmean(self._before), statistics.pstdev(self._before)
                if loss > mean + self._factor * spread:
                    raise Spoilt(done, "spike", step, loss, self._newest())
            self._before.append(loss)

    def judge(self, validation_loss: float, done: int) -> None:
        """Raise ``Spoilt`` if a validation loss is no number."""
        if not math.isfinite(validation_loss):
            raise Spoilt(done, "not_finite", done - 1, validation_loss, self._newest())
