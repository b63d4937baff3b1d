"""Train to the end; after a divergence, roll back and skip the batches that caused it.

A rollback resumes the same run from a checkpoint before the divergence. The rollbacks of a run are
listed in ``rollbacks.json`` beside its checkpoints. It is written before the checkpoints that a
rollback discards are removed: after a crash, this machine or another continues with the last one.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from infra.store.retry import retry_if_remote
from infra.store.storage import Storage
from lm.checkpoint.logs import LOG_FILES
from lm.checkpoint.marker import MARKER, Checkpoint, list_complete, remove_checkpoint
from lm.data.shuffle import batch_for_step, merge_ranges
from lm.launch.torchrun import OnMetrics, TrainingConfigError, TrainingDiverged, launch
from lm.metrics.goodput import METRICS
from lm.train.job import TrainJob
from lm.train.loss_spike import describe_divergence

log = logging.getLogger(__name__)

ROLLBACKS_FILE = "rollbacks.json"

T = TypeVar("T")


@dataclass(frozen=True)
class Rollback:
    """One rollback of a training run.

    Attributes:
        number: 1 is the first.
        from_step: steps done at the checkpoint that it resumes from; ``None``: it starts anew.
        bad_step: the 1-based step whose loss or gradient was bad.
        skipped_steps: the half-open range of 0-based steps whose batches it skips.
        kind: ``not_finite`` or ``spike``.
        loss: of ``bad_step``, as text, because JSON has no NaN.
        skip: half-open ranges of all batches skipped so far, ascending.
    """

    number: int
    from_step: int | None
    bad_step: int
    skipped_steps: tuple[int, int]
    kind: str
    loss: str
    skip: tuple[tuple[int, int], ...]

    @property
    def folder(self) -> str:
        """Where the log of the run until this rollback is, beside its checkpoints."""
        return f"diverged-{self.number}"

    def __str__(self) -> str:
        start = (
            "the start" if self.from_step is None else f"the checkpoint of step {self.from_step}"
        )
        batches = ", ".join(f"{first} to {end - 1}" for first, end in self.skip)
        return (
            f"{describe_divergence(self.kind, float(self.loss))} in step {self.bad_step}: rollback "
            f"{self.number} resumes from {start} without the batches {batches}"
        )


def next_rollback(
    rollbacks: Sequence[Rollback], divergence: Mapping[str, Any], from_step: int | None
) -> Rollback:
    """Return the rollback that also skips the batches that made the run diverge.

    These are the batches from the step before the bad one, whose update may be the cause, to the
    step at which it was detected.

    Args:
        rollbacks: of the run so far.
        divergence: the fields of ``LossDivergedError``.
        from_step: steps done at the checkpoint to resume from.
    """
    skip = rollbacks[-1].skip if rollbacks else ()
    bad_step = divergence["first_bad_step"]
    first, end = max(from_step or 0, bad_step - 1), max(divergence["step"], bad_step + 1)
    batches = [batch_for_step(step, skip) for step in range(first, end)]
    return Rollback(
        number=len(rollbacks) + 1,
        from_step=from_step,
        bad_step=bad_step + 1,
        skipped_steps=(first, end),
        kind=divergence["kind"],
        loss=str(divergence["loss"]),
        skip=tuple(merge_ranges((*skip, *((batch, batch + 1) for batch in batches)))),
    )


@dataclass(frozen=True)
class TrainingRun:
    """A training run with its rollbacks.

    Attributes:
        job: the run without rollbacks.
        rendezvous: where its attempts are published for other nodes.
    """

    job: TrainJob
    rendezvous: Storage | None = None

    @property
    def checkpoints(self) -> Storage:
        """The folder of its checkpoints."""
        return self.job.checkpoint_store.storage

    def load_rollbacks(self) -> list[Rollback]:
        """Return its rollbacks so far, oldest first."""
        store = self.checkpoints
        if not self._retry("reading", ROLLBACKS_FILE, partial(store.exists, ROLLBACKS_FILE)):
            return []
        data = self._retry("reading", ROLLBACKS_FILE, partial(store.read, ROLLBACKS_FILE))
        return [_from_json(value) for value in json.loads(data)]

    def record_rollback(self, rollbacks: Sequence[Rollback]) -> None:
        """Record the last of these rollbacks: from now on, the run resumes with it.

        The log is first stored beside the checkpoints, where any machine can read it.
        """
        for name in LOG_FILES:
            target = f"{rollbacks[-1].folder}/{name}"
            upload = partial(self.checkpoints.upload, self.job.folder / name, target)
            self._retry("writing", target, upload)
        write = partial(self.checkpoints.write, ROLLBACKS_FILE, to_json(rollbacks))
        self._retry("writing", ROLLBACKS_FILE, write)

    def next_job(self, rollbacks: Sequence[Rollback]) -> TrainJob:
        """Remove the checkpoints that the last rollback discards; return the job that follows it."""
        if not rollbacks:
            return self.job
        last = rollbacks[-1]
        for item in self._list_complete():
            is_later = item.step > (last.from_step or 0)
            if is_later and item.metadata["skip"] != [list(batches) for batches in last.skip]:
                self._retry("removing", item.name, partial(remove_checkpoint, item.storage))
        if not (self.job.folder / METRICS).exists():  # another machine wrote it
            for name in LOG_FILES:
                self._download(f"{last.folder}/{name}", self.job.folder / name)
        return replace(self.job, skip=last.skip)

    def last_good_step(self, max_step: int) -> int | None:
        """Return the steps done at the newest checkpoint of at most ``max_step`` steps."""
        return max((c.step for c in self._list_complete() if c.step <= max_step), default=None)

    def diverged_log(self, rollback: Rollback) -> Path:
        """Return the metrics of the run until a rollback."""
        path = self.job.folder / rollback.folder / METRICS
        self._download(f"{rollback.folder}/{METRICS}", path)
        return path

    def final_checkpoints(self) -> list[Path]:
        """Return folders of the last checkpoint and of those that ``keep_interval`` keeps."""
        checkpoints, store = self._list_complete(), self.job.checkpoint_store
        kept = [item for item in checkpoints[:-1] if store.is_permanent(item.step)]
        return [self._fetch(item) for item in (*kept, *checkpoints[-1:])]

    def _list_complete(self) -> list[Checkpoint]:
        return self._retry("reading", "", partial(list_complete, self.checkpoints))

    def _fetch(self, checkpoint: Checkpoint) -> Path:
        path = checkpoint.storage.local_path()
        if path is not None:
            return path
        folder = self.job.folder / "fetched" / checkpoint.name
        for name in (*checkpoint.files, MARKER):
            self._download(f"{checkpoint.name}/{name}", folder / name)
        return folder

    def _download(self, name: str, path: Path) -> None:
        self._retry("reading", name, partial(self.checkpoints.download, name, path))

    def _retry(self, verb: str, name: str, operation: Callable[[], T]) -> T:
        store, timeout_s = self.checkpoints, self.job.config.run.storage_timeout
        return retry_if_remote(store, f"{verb} {store.url}/{name}", operation, timeout_s)


def train_with_rollback(
    training_run: TrainingRun, on_metrics: OnMetrics, on_rollback: Callable[[Rollback], None]
) -> dict[str, Any]:
    """Train to the end; roll back whenever the loss is NaN or spikes.

    Returns:
        As ``launch``.

    Raises:
        TrainingConfigError: if it diverges after ``max_rollbacks``; the message lists them.
    """
    rollbacks = training_run.load_rollbacks()
    config = training_run.job.config
    while True:
        job = training_run.next_job(rollbacks)
        try:
            return launch(job, on_metrics, training_run.rendezvous)
        except TrainingDiverged as error:
            divergence = error.details
        bad_step = divergence["first_bad_step"]
        if len(rollbacks) >= config.run.max_rollbacks:
            made = "; ".join(map(str, rollbacks))
            raise TrainingConfigError(
                f"training {config.name}: {describe_divergence(divergence['kind'], divergence['loss'])} "
                f"in step {bad_step + 1}, after {len(rollbacks)} of {config.run.max_rollbacks} "
                "rollbacks"
                + (f" ({made})" if made else "")
                + "; lower optim.lr, raise optim.warmup_fraction, or look at the batches"
            )
        # The checkpoint after the step before the bad one may hold the update that is the cause.
        from_step = training_run.last_good_step(bad_step - 1)
        rollbacks.append(next_rollback(rollbacks, divergence, from_step))
        training_run.record_rollback(rollbacks)
        log.warning("training %s: %s", config.name, rollbacks[-1])
        on_rollback(rollbacks[-1])


def to_json(rollbacks: Sequence[Rollback]) -> bytes:
    """Return the content of ``rollbacks.json``."""
    return json.dumps([asdict(rollback) for rollback in rollbacks], indent=1).encode()


def _from_json(value: Mapping[str, Any]) -> Rollback:
    skip = tuple((first, end) for first, end in value["skip"])
    first, end = value["skipped_steps"]
    return Rollback(**{**value, "skip": skip, "skipped_steps": (first, end)})
