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
from infra.store.retry import ask
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.launch.rendezvous import published
from lm.launch.torchrun import JOB, TAIL, TrainingFailed, torchrun

log = logging.getLogger(__name__)

POLL = 1.0  # seconds


def take_part(
    config: TrainConfig,
    meet: Storage,
    committed: Callable[[], bool],
    tell: Callable[[str], None],
) -> None:
    """Take part in a run until its model is committed.

    Args:
        config: what is trained.
        meet: where the first machine tells of the run.
        committed: whether the model is.
        tell: called with what is done or waited for, whenever that changes.

    Raises:
        TrainingFailed: if the first machine tells that the run has ended without a model.
    """
    folder = (
        cache_root() / "train" / f"{meet.url.rstrip('/').rsplit('/', 1)[-1]}.{socket.gethostname()}"
    )
    known: str | None = None
    said = ""
    while not committed():
        read = partial(published, meet)
        job = ask(meet, f"reading {meet.url}", read, config.store_patience)
        if job and known and "ended" in job:
            raise TrainingFailed(f"the first machine ended the run: {job['ended']}")
        if job and job.get("start_id", known) != known:
            known = job["start_id"]
            tell(f"taking part in {job['config']['name']}, {config.processes_here} processes")
            code, last = _take_part(job, folder)
            if code != 0:
                tell(f"the processes ended with status {code}:\n{last}")
            said = ""
            continue
        waits = "the end of the run, or its next start" if known else "the first machine to start"
        if waits != said:
            tell(f"waiting for {waits} ({meet.url})")
            said = waits
        time.sleep(POLL)


def _take_part(job: dict[str, Any], folder: Path) -> tuple[int, str]:
    """One torchrun, from start to end: its status and last output."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOB).write_text(json.dumps({**job, "first": False}))
    tail: deque[str] = deque(maxlen=TAIL)
    config = TrainConfig.model_validate(job["config"])
    code = torchrun(config, folder, lambda _: None, tail, job["start_id"], first=False)
    return code, "\n".join(tail)
