"""Back-pressure: how many requests are let in, and when to come back."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from serve.api.errors import ApiError

MAX_RETRY_S = 60
_WEIGHT = 0.1  # of the newest request in the mean duration


class Admission:
    """Lets in as many requests as run at once and may wait; more are refused with 429.

    Args:
        slots: requests that run at once.
        max_queue: requests that may wait beside them.
    """

    def __init__(self, slots: int, max_queue: int) -> None:
        self._slots = slots
        self._capacity = slots + max_queue
        self._mean_s = 1.0
        self.admitted = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Let a request in until the block ends.

        Raises:
            ApiError: 429 with ``Retry-After``, if there is no room.
        """
        if self.admitted >= self._capacity:
            # As long as it takes until the requests before are through.
            wait = math.ceil(self._mean_s * self.admitted / self._slots)
            raise ApiError(
                429,
                f"{self.admitted} requests run or wait; try again later",
                code="queue_full",
                headers={"Retry-After": str(min(max(1, wait), MAX_RETRY_S))},
            )
        self.admitted += 1
        start = time.monotonic()
        try:
            yield
        finally:
            self.admitted -= 1
            self._mean_s += _WEIGHT * (time.monotonic() - start - self._mean_s)
