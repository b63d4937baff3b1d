"""Preloaded by a Dask worker: it says something every now and then, as a stage's function might."""

import logging
import threading
import time

LINE = "a line from the worker"


def dask_setup(worker: object) -> None:
    """Begin to talk."""

    def talk() -> None:
        log = logging.getLogger("tasks.noisy")
        while True:
            log.info(LINE)
            time.sleep(0.2)

    threading.Thread(target=talk, daemon=True).start()
