"""How long tests wait: long enough for a busy machine, since a limit only ends what hangs.

A test waits for a condition, never for a time. ``TEST_TIMEOUT_SCALE=4 make test`` raises all limits.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SCALE = float(os.environ.get("TEST_TIMEOUT_SCALE", "1"))
WAIT_TIMEOUT_S = 600 * SCALE  # for a condition, a command, or the start of a server
TEST_TIMEOUT_S = 900 * SCALE  # for a test, with the fixtures that it is the first to need
E2E_TEST_TIMEOUT_S = 1500 * SCALE  # the longest takes eight minutes of a quiet machine
POLL_INTERVAL_S = 0.05  # at first; a condition that takes long to become true is asked less often
MAX_POLL_INTERVAL_S = 0.5
POLL_GROWTH = 0.05  # of the time waited: how much later the test may go on
REST = 4.0  # times the seconds that asking took, so that tests leave the processor to what they wait for


def wait_for(
    condition: Callable[[], T | None],
    process: "subprocess.Popen[bytes] | None" = None,
    poll_interval_s: float = POLL_INTERVAL_S,
) -> T:
    """Poll until the result is true, and return it.

    What one asks often costs: a list of all processes 30 ms, a request 20 ms of the server.

    Args:
        condition: what to wait for.
        process: without which the condition cannot become true any more.
        poll_interval_s: least seconds between two calls.

    Raises:
        AssertionError: if it does not become true, or the process has ended.
    """
    start = time.monotonic()
    while True:
        asked = time.monotonic()
        ended = process is not None and process.poll() is not None
        if result := condition():
            return result
        assert not ended, f"the process ended with {process and process.returncode}"
        waited = time.monotonic() - start
        assert waited < WAIT_TIMEOUT_S, f"not true within {WAIT_TIMEOUT_S:g} s"
        interval = min(max(poll_interval_s, POLL_GROWTH * waited), MAX_POLL_INTERVAL_S)
        time.sleep(max(interval, poll_interval_s, REST * (time.monotonic() - asked)))


async def until(condition: Callable[[], bool], poll_interval_s: float = 0.005) -> None:
    """Poll from a coroutine until the result is true: for what has no event.

    Raises:
        TimeoutError: if it does not become true.
    """
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(poll_interval_s)
