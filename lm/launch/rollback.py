"""Train to the end; after a divergence, roll back and skip the batches that caused it."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from infra.store.retry import retry_if_remote
from infra.store.storage import Storage
from lm.checkpoint.logs import LOG_FILES
from lm.checkpoint.marker import MARKER, Checkpoint, list_complete
from lm.checkpoint.retention import ResumePoint
from lm.launch.rollback_log import ROLLBACKS_FILE, Rollback, load_rollbacks, save_rollbacks
from lm.launch.torchrun import OnMetrics, TrainingConfigError, TrainingDiverged, launch
from lm.metrics.goodput import METRICS
from lm.train.callbacks.loss_spike import describe_divergence
from lm.train.job import TrainJob

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingRun:
    """A training with all its rollbacks.

    Attributes:
        job: of the original run.
        rendezvous: where its starts are published for other nodes.
    """

    job: TrainJob
    rendezvous: Storage | None = None

    def folder(self, rollback: Rollback) -> Path:
        """Return where a rollback works on this machine."""
        return rollback.folder(self.job.folder)

    def job_for(self, rollbacks: Sequence[Rollback]) -> TrainJob:
        """Return the job of the last rollback."""
        rollback = rollbacks[-1]
        return replace(
            self.job,
            folder=self.folder(rollback),
            compatibility_key=self._compatibility_key(rollback),
            checkpoint_url=self._checkpoint_url(rollback),
            resume_point=self._resume_point(rollbacks),
            skip=rollback.skip,
        )

    def checkpoint_storage(self, rollback: Rollback) -> Storage:
        """Return the folder of a rollback's checkpoints."""
        return Storage(self._checkpoint_url(rollback))

    def list_complete(self, rollback: Rollback) -> list[Checkpoint]:
        """Return a rollback's complete checkpoints, oldest first."""
        store = self.checkpoint_storage(rollback)
        return self._retry(store, f"reading {store.url}", partial(list_complete, store))

    def load_rollbacks(self) -> list[Rollback]:
        """Return the original run and its rollbacks so far, oldest first."""
        store = self.checkpoint_storage(Rollback())
        return self._retry(store, f"reading {store.url}", partial(load_rollbacks, store))

    def start_rollback(self, rollbacks: Sequence[Rollback], new: Rollback) -> None:
        """Record a new rollback: from now on the training resumes there.

        The log of the run that diverged is first stored beside its checkpoints, where any machine
        can read it.
        """
        store, folder = self.checkpoint_storage(rollbacks[-1]), self.folder(rollbacks[-1])
        for name in LOG_FILES:
            upload = partial(store.upload, folder / name, name)
            self._retry(store, f"writing {store.url}/{name}", upload)
        shutil.rmtree(self.folder(new), ignore_errors=True)
        original = self.checkpoint_storage(Rollback())
        record = partial(save_rollbacks, original, [*rollbacks, new])
        self._retry(original, f"writing {original.url}/{ROLLBACKS_FILE}", record)

    def restore_parent_logs(self, rollbacks: Sequence[Rollback]) -> None:
        """Copy the parent's log to the last rollback, unless it has one on this machine.

        The rollback removes the lines after its checkpoint when it starts.
        """
        rollback = rollbacks[-1]
        if rollback.parent is None or (self.folder(rollback) / METRICS).exists():
            return
        for name in LOG_FILES:  # METRICS, whose existence is checked above, is the last
            self._download(rollbacks[rollback.parent], name, self.folder(rollback) / name)

    def abandoned_log(self, rollback: Rollback) -> Path:
        """Return the log of a run that diverged."""
        path = self.job.folder / "fetched" / rollback.name / METRICS
        self._download(rollback, METRICS, path)
        return path

    def last_good_step(self, rollbacks: Sequence[Rollback], max_step: int) -> int | None:
        """Return the steps done at the newest checkpoint of at most ``max_step`` steps.

        It is one of the last rollback, or of the run that it started from, and so on.
        """
        rollback = rollbacks[-1]
        while True:
            steps = [item.step for item in self.list_complete(rollback) if item.step <= max_step]
            if steps:
                return max(steps)
            if rollback.parent is None or rollback.from_step is None:
                return None
            max_step, rollback = min(max_step, rollback.from_step), rollbacks[rollback.parent]

    def final_checkpoints(self, rollbacks: Sequence[Rollback]) -> list[Path]:
        """Return folders of the last checkpoint and of those that ``keep_interval`` keeps."""
        rollback, max_step = rollbacks[-1], None
        chosen: list[Checkpoint] = self.list_complete(rollback)[-1:]
        interval = self.job.config.run.keep_interval
        while interval:
            for item in self.list_complete(rollback):
                in_range = max_step is None or item.step <= max_step
                is_new = item.name not in {checkpoint.name for checkpoint in chosen}
                if in_range and item.step % interval == 0 and is_new:
                    chosen.append(item)
            if rollback.parent is None or rollback.from_step is None:
                break
            rollback, max_step = rollbacks[rollback.parent], rollback.from_step
        return [self._download_checkpoint(item) for item in chosen]

    def _checkpoint_url(self, rollback: Rollback) -> str:
        folder, url = self.folder(rollback), self.job.config.run.checkpoint_url
        if url is None:
            return str(folder / "checkpoints")
        root = Storage(url)
        path = root.local_path()
        return f"{(str(path) if path else root.url).rstrip('/')}/{folder.name}"

    def _compatibility_key(self, rollback: Rollback) -> dict[str, Any]:
        skip = [list(batches) for batches in rollback.skip]
        return {**self.job.compatibility_key, "skip": skip}

    def _resume_point(self, rollbacks: Sequence[Rollback]) -> ResumePoint | None:
        """Return the checkpoint that the last rollback starts from, whichever run made it."""
        from_step, parent = rollbacks[-1].from_step, rollbacks[-1].parent
        while from_step is not None and parent is not None:
            run = rollbacks[parent]
            if any(item.step == from_step for item in self.list_complete(run)):
                return ResumePoint(
                    self._checkpoint_url(run), from_step, self._compatibility_key(run)
                )
            parent = run.parent
        return None

    def _download_checkpoint(self, checkpoint: Checkpoint) -> Path:
        path = checkpoint.storage.local_path()
        if path is not None:
            return path
        folder = self.job.folder / "fetched" / checkpoint.name
        for name in (*checkpoint.files, MARKER):
            download = partial(checkpoint.storage.download, name, folder / name)
            self._retry(checkpoint.storage, f"reading {checkpoint.storage.url}/{name}", download)
        return folder

    def _download(self, rollback: Rollback, name: str, path: Path) -> None:
        store = self.checkpoint_storage(rollback)
        self._retry(store, f"reading {store.url}/{name}", partial(store.download, name, path))

    def _retry(self, store: Storage, what: str, operation: Callable[[], T]) -> T:
        return retry_if_remote(store, what, operation, self.job.config.run.storage_timeout)


def train_with_rollback(
    training_run: TrainingRun, on_metrics: OnMetrics, on_rollback: Callable[[Rollback], None]
) -> dict[str, Any]:
    """Train the last rollback to the end; make another whenever the loss is NaN or spikes.

    Args:
        training_run: the training.
        on_metrics: called with each line of the log.
        on_rollback: called with each new rollback.

    Returns:
        As ``launch``.

    Raises:
        TrainingConfigError: if it diverges after ``max_rollbacks``; the message lists them.
    """
    rollbacks = training_run.load_rollbacks()
    config = training_run.job.config
    while True:
        training_run.restore_parent_logs(rollbacks)
        try:
            return launch(training_run.job_for(rollbacks), on_metrics, training_run.rendezvous)
        except TrainingDiverged as error:
            divergence = error.details
        # The checkpoint after the step before the bad one may hold the update that is the cause.
        bad_step = divergence["first_bad_step"]
        from_step = training_run.last_good_step(rollbacks, bad_step - 1)
        new = rollbacks[-1].next_rollback(divergence, from_step)
        if new.number > config.run.max_rollbacks:
            made = "; ".join(str(rollback) for rollback in rollbacks[1:])
            raise TrainingConfigError(
                f"training {config.name}: {describe_divergence(divergence['kind'], divergence['loss'])} "
                f"in step {bad_step + 1}, after {len(rollbacks) - 1} of {config.run.max_rollbacks} "
                "rollbacks"
                + (f" ({made})" if made else "")
                + "; lower optim.lr, raise optim.warmup_fraction, or look at the batches"
            )
        training_run.start_rollback(rollbacks, new)
        rollbacks.append(new)
        log.warning("training %s: %s", config.name, new)
        on_rollback(new)
