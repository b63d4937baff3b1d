"""How long tests wait: long enough for a busy machine, since a limit only ends what hangs.

A test waits for a condition, never for a time. ``TEST_TIMEOUT_SCALE=4 make test`` raises all limits.
"""

import os
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SCALE = float(os.environ.get("TEST_TIMEOUT_SCALE", "1"))
WAIT_TIMEOUT_S = 600 * SCALE  # for a condition, a command, or the start of a server
TEST_TIMEOUT_S = 900 * SCALE  # for a test, with the fixtures that it is the first to need
E2E_TEST_TIMEOUT_S = 3600 * SCALE
POLL_INTERVAL_S = 0.05


def wait_for(
    condition: Callable[[], T | None],
    process: "subprocess.Popen[bytes] | None" = None,
    poll_interval_s: float = POLL_INTERVAL_S,
) -> T:
    """Poll until the result is true, and return it.

    Args:
        condition: what to wait for.
        process: without which the condition cannot become true any more.
        poll_interval_s: seconds between two calls.

    Raises:
        AssertionError: if it does not become true, or the process has ended.
    """
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while True:
        ended = process is not None and process.poll() is not None
        if result := condition():
            return result
        assert not ended, f"the process ended with {process and process.returncode}"
        assert time.monotonic() < deadline, f"not true within {WAIT_TIMEOUT_S:g} s"
        time.sleep(poll_interval_s)
