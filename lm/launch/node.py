"""What every machine but the first does: wait for a start of the run, take part, wait again."""

import json
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from infra.store.cache_dir import cache_root
from infra.store.retry import retry_if_remote
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.launch.rendezvous import read_job
from lm.launch.torchrun import JOB_FILE, MAX_TAIL_LINES, TrainingFailedError, torchrun

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 1.0  # seconds


def run_node(
    config: TrainConfig,
    rendezvous: Storage,
    is_committed: Callable[[], bool],
    on_status: Callable[[str], None],
) -> None:
    """Take part in a run until its model is committed.

    Args:
        config: what is trained.
        rendezvous: where the first machine tells of the run.
        is_committed: whether the model is.
        on_status: called with what is done or waited for, whenever that changes.

    Raises:
        TrainingFailed: if the first machine tells that the run has ended without a model.
    """
    folder = (
        cache_root()
        / "train"
        / f"{rendezvous.url.rstrip('/').rsplit('/', 1)[-1]}.{socket.gethostname()}"
    )
    known: str | None = None
    said = ""
    while not is_committed():
        read = partial(read_job, rendezvous)
        job = retry_if_remote(
            rendezvous, f"reading {rendezvous.url}", read, config.run.storage_timeout
        )
        if job and known and "ended" in job:
            raise TrainingFailedError(f"the first machine ended the run: {job['ended']}")
        if job and job.get("start_id", known) != known:
            known = job["start_id"]
            on_status(
                f"taking part in {job['config']['name']}, {config.run.local_processes} processes"
            )
            code, last = _run_torchrun(job, folder)
            if code != 0:
                on_status(f"the processes ended with status {code}:\n{last}")
            said = ""
            continue
        waits = "the end of the run, or its next start" if known else "the first machine to start"
        if waits != said:
            on_status(f"waiting for {waits} ({rendezvous.url})")
            said = waits
        time.sleep(POLL_INTERVAL_S)


def _run_torchrun(job: dict[str, Any], folder: Path) -> tuple[int, str]:
    """One torchrun, from start to end: its status and last output."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOB_FILE).write_text(json.dumps({**job, "is_first_node": False}))
    tail: deque[str] = deque(maxlen=MAX_TAIL_LINES)
    config = TrainConfig.model_validate(job["config"])
    code = torchrun(config, folder, lambda _: None, tail, job["start_id"], is_first_node=False)
    return code, "\n".join(tail)
