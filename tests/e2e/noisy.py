"""Preloaded by a Dask worker: logs a line repeatedly, as a stage's function might."""

import logging
import threading
import time

LINE = "a line from the worker"


def dask_setup(worker: object) -> None:
    """Start logging."""

    def log_lines() -> None:
        log = logging.getLogger("tasks.noisy")
        while True:
            log.info(LINE)
            time.sleep(0.2)

    threading.Thread(target=log_lines, daemon=True).start()
