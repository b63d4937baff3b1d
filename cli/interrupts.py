"""Ctrl-C ends a command wherever it comes.

``KeyboardInterrupt`` does not: raised while modules are imported or models of recipes are built, it
becomes an error of a library that was in between (pydantic raises ``SchemaError``), or is printed and
ignored (a weak reference's callback, which Python calls after each import). So it is raised only
where something has to be cleaned up; everywhere else the process ends at once.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from infra.log_format import ENV_VAR, JSON, json_line

INTERRUPTED = "interrupted; run the same command again to resume"
EXIT_FAILURE = 1
RESEND_DELAY_S = 0.01  # after it the code that cannot be interrupted has usually ended


def end_on_interrupt() -> None:
    """Let an interrupt end this process at once with an error line.

    A process that ignores interrupts, as one in the background does, goes on ignoring them.
    """
    if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.default_int_handler):
        signal.signal(signal.SIGINT, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    try:
        os.write(
            2, f"{format_message(INTERRUPTED, 'error')}\n".encode()
        )  # sys.stderr may be in use
    finally:  # whoever reads standard error may have ended first
        os._exit(EXIT_FAILURE)


def format_message(text: str, level: str) -> str:
    """Return a line of a command: a JSON object where lines are JSON."""
    if os.environ.get(ENV_VAR) == JSON:
        return json_line(time.time(), level, "cli", text)
    return f"error: {text}" if level == "error" else text


@contextlib.contextmanager
def clean_up_on_interrupt() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` on an interrupt in this block.

    It is raised again if Python ignores it, and at the end of the block if something else came of it.
    """
    if signal.getsignal(signal.SIGINT) is not _end:
        yield
        return
    report, is_interrupted = sys.unraisablehook, False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        raise KeyboardInterrupt

    def resend(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            threading.Thread(target=_interrupt_soon, daemon=True).start()
        else:
            report(unraisable)

    sys.unraisablehook = resend
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _end)
        sys.unraisablehook = report
        if is_interrupted:
            raise KeyboardInterrupt


def _interrupt_soon() -> None:
    time.sleep(RESEND_DELAY_S)
    # To the process: its main thread would not notice what this thread receives while it waits.
    os.kill(os.getpid(), signal.SIGINT)
