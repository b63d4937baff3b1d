"""Notice that this machine's clock was set back while Dask works.

Dask sends its messages at times of the wall clock (tornado's event loop knows no other one). If that is set back by an
hour just then, a message waits for an hour, and so does whoever waits for its answer.
"""

import time

from infra.errors import UserError

SET_BACK_S = 10.0  # by how much, that it counts: slewing and leap seconds move a clock by less
STALL_TIMEOUT_S = 300.0


class ClockSetBackError(UserError):
    """The clock was set back, and since then nothing was finished."""


class ClockWatch:
    """Follows the wall clock against the one that only goes forward."""

    def __init__(self) -> None:
        """Begin now."""
        self._offset = _offset()
        self._since: float | None = (
            None  # of the monotonic clock: set back, and nothing was finished
        )

    def progressed(self) -> None:
        """Note that something was finished."""
        if self._since is not None:
            self._since = time.monotonic()

    def check(self) -> None:
        """Call it while nothing is finished.

        Raises:
            ClockSetBackError: if that lasts for ``STALL_TIMEOUT_S`` after the clock was set back.
        """
        behind = self._offset - _offset()
        if behind < SET_BACK_S:
            self._since = None
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since >= STALL_TIMEOUT_S:
            raise ClockSetBackError(
                f"cluster: this machine's clock was set back by {behind:,.0f} s, and Dask has finished nothing for "
                f"{STALL_TIMEOUT_S:,.0f} s since then: it waits for the time that it was. Run again: finished work is reused"
            )


def _offset() -> float:
    return time.time() - time.monotonic()
