"""Moving average of the weights."""

from lm.train.callbacks.base import Callback
from lm.train.state import State


class WeightAveraging(Callback):
    """Update the exponential moving average of the weights after each update."""

    def __init__(self, state: State, decay: float) -> None:
        """Average the weights of ``state`` with this maximum decay."""
        self._state, self._decay = state, decay

    def after_step(self, step: int, *, applied: bool) -> None:
        """Move the average towards the new weights."""
        if applied:
            self._state.update_ema(self._decay, step)
