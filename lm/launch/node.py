"""A further node of a training run: wait for an attempt, take part, wait for the next one."""

import logging
import shutil
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from infra.store.cache_dir import cache_root
from infra.store.retry import retry_if_remote
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.launch.rendezvous import read_job
from lm.launch.torchrun import MAX_TAIL_LINES, TrainingFailedError, torchrun
from lm.train.job import TrainJob

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 1.0


def run_node(
    config: TrainConfig,
    rendezvous: Storage,
    *,
    is_committed: Callable[[], bool],
    is_superseded: Callable[[], bool],
    on_status: Callable[[str], None],
) -> bool:
    """Take part in a training run; return whether its model was committed.

    Args:
        config: what is trained.
        rendezvous: where the first node publishes attempts.
        is_committed: returns whether the model is committed.
        is_superseded: returns whether a run that makes another model started meanwhile; it is asked
            until the first attempt.
        on_status: called with what this node does or waits for, whenever that changes.

    Raises:
        TrainingFailedError: if the first node ended the run without a model.
    """
    model = rendezvous.url.rstrip("/").rsplit("/", 1)[-1]
    folder = cache_root() / "train" / f"{model}.{socket.gethostname()}"
    last_attempt: str | None = None
    status = ""
    while not is_committed():
        read = partial(read_job, rendezvous)
        what = f"reading {rendezvous.url}"
        published = retry_if_remote(rendezvous, what, read, config.run.storage_timeout)
        if published and last_attempt and "ended" in published:
            raise TrainingFailedError(f"the first node ended the run: {published['ended']}")
        if published and published.get("attempt_id", last_attempt) != last_attempt:
            job = TrainJob.from_json({**published, "is_first_node": False}, folder)
            last_attempt = job.attempt_id
            processes = job.config.run.local_processes
            on_status(f"training {job.config.name} with {processes} processes")
            job.save()
            tail: deque[str] = deque(maxlen=MAX_TAIL_LINES)
            code = torchrun(job, lambda _: None, tail)
            if code != 0:
                on_status(f"the processes ended with status {code}:\n" + "\n".join(tail))
            status = ""
            continue
        if last_attempt is None and is_superseded():
            return False
        waits_for = "the end of the run, or its next attempt" if last_attempt else "the first node"
        if waits_for != status:
            on_status(f"waiting for {waits_for} ({rendezvous.url})")
            status = waits_for
        time.sleep(POLL_INTERVAL_S)
    shutil.rmtree(folder, ignore_errors=True)
    return True
