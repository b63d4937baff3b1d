"""Notice that this machine's clock was set back while Dask works.

Dask sends its messages at times of the wall clock (tornado's event loop knows no other one). If that is set back by an
hour just then, a message waits for an hour, and so does whoever waits for its answer.
"""

import time

from infra.errors import UserError

STALL_TIMEOUT_S = 300.0


class ClockSetBackError(UserError):
    """The clock was set back, and since then nothing was finished."""


class ClockWatch:
    """Follows the wall clock: a message waits at most until it shows the latest time that it has shown."""

    def __init__(self) -> None:
        """Begin now."""
        self._latest = time.time()
        self._since: float | None = None  # of the steady clock: behind, and nothing was finished

    def progressed(self) -> None:
        """Note that something was finished."""
        self._since = None

    def check(self) -> None:
        """Call it again and again while nothing is finished.

        Raises:
            ClockSetBackError: if that lasts for ``STALL_TIMEOUT_S`` while the clock is behind.
        """
        now = time.time()
        behind, self._latest = self._latest - now, max(self._latest, now)
        if behind <= 0:
            self._since = None
            return
        steady = time.monotonic()
        if self._since is None:
            self._since = steady
        if steady - self._since >= STALL_TIMEOUT_S:
            raise ClockSetBackError(
                f"cluster: this machine's clock was set back, by {behind:,.0f} s from now, and Dask has finished nothing "
                f"for {STALL_TIMEOUT_S:,.0f} s: it waits for the time that it was. Run again: finished work is reused"
            )
