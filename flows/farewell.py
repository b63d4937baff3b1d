"""The end of a run whose Prefect server has gone: the work is done, and nobody is left to be told.

Prefect goes on for minutes then: a minute of retries for each request, and seven seconds for each
event that waits to be sent. A process that exists for its run alone need not wait for that.
"""

import time
from collections.abc import Callable
from typing import NoReturn

import httpx
from prefect.settings import get_current_settings

from flows.prefect_server import EphemeralServer
from infra.runs.run_records import RunRecord

SERVER_LOST_TIMEOUT_S = 15.0  # seconds without an answer after which the server is taken to be gone
PROBE_TIMEOUT_S = 5.0  # seconds granted to one answer

ExitHandler = Callable[[RunRecord, BaseException | None], NoReturn]

_exit_handlers: list[ExitHandler] = []


def exit_when_server_lost(handler: ExitHandler) -> None:
    """What this process does when a run has ended and its server has gone, instead of waiting."""
    _exit_handlers[:] = [handler]


def on_run_end(record: RunRecord, error: BaseException | None) -> None:
    """To be called when the store holds all that a run leaves, before Prefect takes over."""
    if _exit_handlers and not _is_server_reachable():
        _exit_handlers[0](record, error)


def _is_server_reachable() -> bool:
    """Whether the server answers, if need be after a moment."""
    api = get_current_settings().api.url or EphemeralServer().api_url
    deadline = time.monotonic() + SERVER_LOST_TIMEOUT_S
    while True:
        try:
            httpx.get(f"{str(api).rstrip('/')}/health", timeout=PROBE_TIMEOUT_S)
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
        else:
            return True
