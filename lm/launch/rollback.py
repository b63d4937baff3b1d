"""Takes a run to its end, over as many branches as its recipe allows."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from infra.dataset.dataset import Dataset
from infra.store.retry import retry_if_remote
from infra.store.storage import Storage
from lm.checkpoint.logs import LOG_FILES
from lm.checkpoint.marker import Checkpoint, list_complete
from lm.checkpoint.retention import ResumePoint
from lm.config.train import TrainConfig
from lm.launch.rollback_log import ROLLBACKS_FILE, Rollback, load_rollbacks, save_rollbacks
from lm.launch.torchrun import TrainingConfigError, TrainingDiverged, launch
from lm.metrics.goodput import METRICS
from lm.train.loss_spike import describe_divergence

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingRun:
    """What all branches of a run have in common.

    Attributes:
        config: what to train.
        seed: the recipe's.
        tokens: the token shards.
        folder: of the trunk.
        compatibility_key: what a checkpoint must agree on besides the batches that are left out.
        base_model: the model whose weights it starts with.
        rendezvous: where other machines are told of the run.
    """

    config: TrainConfig
    seed: int
    tokens: Dataset
    folder: Path
    compatibility_key: Mapping[str, Any]
    base_model: Dataset | None = None
    rendezvous: Storage | None = None

    def checkpoint_url(self, rollback: Rollback) -> str:
        """Of a branch's checkpoints."""
        folder = rollback.folder(self.folder)
        if self.config.run.checkpoint_url is None:
            return str(folder / "checkpoints")
        root = Storage(self.config.run.checkpoint_url)
        path = root.local_path()
        return f"{(str(path) if path else root.url).rstrip('/')}/{folder.name}"

    def checkpoint_storage(self, rollback: Rollback) -> Storage:
        """A branch's checkpoints."""
        return Storage(self.checkpoint_url(rollback))

    def full_compatibility_key(self, rollback: Rollback) -> dict[str, Any]:
        """What a branch's checkpoints must agree on."""
        return {**self.compatibility_key, "skip": [list(one) for one in rollback.skip]}

    def list_complete(self, rollback: Rollback) -> list[Checkpoint]:
        """A branch's complete checkpoints, oldest first."""
        store = self.checkpoint_storage(rollback)
        return self._retry(store, f"reading {store.url}", partial(list_complete, store))

    def load_rollbacks(self) -> list[Rollback]:
        """The trunk itself and its branches so far, oldest first."""
        store = self.checkpoint_storage(Rollback())
        return self._retry(store, f"reading {store.url}", partial(load_rollbacks, store))

    def start_rollback(self, rollbacks: Sequence[Rollback], new: Rollback) -> None:
        """Give the last run up for a branch: from now on the run goes on there.

        First the log goes beside the checkpoints, where any machine finds it.
        """
        store, folder = self.checkpoint_storage(rollbacks[-1]), rollbacks[-1].folder(self.folder)
        for name in LOG_FILES:
            send = partial(store.upload, folder / name, name)
            self._retry(store, f"writing {store.url}/{name}", send)
        shutil.rmtree(new.folder(self.folder), ignore_errors=True)
        trunk = self.checkpoint_storage(Rollback())
        self._retry(
            trunk,
            f"writing {trunk.url}/{ROLLBACKS_FILE}",
            partial(save_rollbacks, trunk, [*rollbacks, new]),
        )

    def restore_parent_logs(self, rollbacks: Sequence[Rollback]) -> None:
        """Give the last branch, if it has no log on this machine, that of its parent.

        The branch takes back what followed its checkpoint.
        """
        branch = rollbacks[-1]
        if branch.parent is None or (branch.folder(self.folder) / METRICS).exists():
            return
        for name in LOG_FILES:  # the log itself comes last
            self._download(rollbacks[branch.parent], name, branch.folder(self.folder) / name)

    def abandoned_log(self, rollback: Rollback) -> Path:
        """The log of a run that was given up."""
        path = self.folder / "fetched" / rollback.name / METRICS
        self._download(rollback, METRICS, path)
        return path

    def last_good_step(self, rollbacks: Sequence[Rollback], max_step: int) -> int | None:
        """Steps at the newest checkpoint on the last branch's way of at most ``max_step`` steps.

        If its own and the one where it began are later, one of its parents' before it branched off.
        """
        branch = rollbacks[-1]
        while True:
            own = [item.step for item in self.list_complete(branch) if item.step <= max_step]
            if own:
                return max(own)
            if branch.parent is None or branch.from_step is None:
                return None
            max_step, branch = min(max_step, branch.from_step), rollbacks[branch.parent]

    def resume_point(self, rollbacks: Sequence[Rollback]) -> ResumePoint | None:
        """Where the last branch begins, whichever run made that checkpoint."""
        good, parent = rollbacks[-1].from_step, rollbacks[-1].parent
        while good is not None and parent is not None:
            for item in self.list_complete(rollbacks[parent]):
                if item.step == good:
                    return ResumePoint(
                        self.checkpoint_url(rollbacks[parent]),
                        good,
                        self.full_compatibility_key(rollbacks[parent]),
                    )
            parent = rollbacks[parent].parent
        return None

    def final_checkpoints(self, rollbacks: Sequence[Rollback]) -> list[Path]:
        """Folders with the last checkpoint and with those that ``keep_interval`` asks for."""
        branch, limit = rollbacks[-1], None
        taken: list[Checkpoint] = self.list_complete(branch)[-1:]
        every = self.config.run.keep_interval
        while every:
            for item in self.list_complete(branch):
                before = limit is None or item.step <= limit
                if before and item.step % every == 0 and item.name not in {c.name for c in taken}:
                    taken.append(item)
            if branch.parent is None or branch.from_step is None:
                break
            branch, limit = rollbacks[branch.parent], branch.from_step
        return [self._download_checkpoint(item) for item in taken]

    def _download_checkpoint(self, checkpoint: Checkpoint) -> Path:
        path = checkpoint.storage.local_path()
        if path is not None:
            return path
        folder = self.folder / "fetched" / checkpoint.name
        for name in (*checkpoint.files, "complete.json"):
            get = partial(checkpoint.storage.download, name, folder / name)
            self._retry(checkpoint.storage, f"reading {checkpoint.storage.url}/{name}", get)
        return folder

    def _download(self, rollback: Rollback, name: str, path: Path) -> None:
        store = self.checkpoint_storage(rollback)
        self._retry(store, f"reading {store.url}/{name}", partial(store.download, name, path))

    def _retry(self, store: Storage, what: str, do: Callable[[], T]) -> T:
        return retry_if_remote(store, what, do, self.config.run.storage_timeout)


def train_with_rollback(
    training_run: TrainingRun,
    on_metrics: Callable[[dict[str, Any]], None],
    on_rollback: Callable[[Rollback], None],
) -> dict[str, Any]:
    """Train on the last branch that there is, opening another whenever the weights are spoilt.

    Args:
        training_run: the run.
        on_metrics: called with each line of the log.
        on_rollback: called with each new branch.

    Returns:
        As ``launch``.

    Raises:
        TrainingRefused: if another branch would be one more than the recipe allows; tells all.
    """
    branches = training_run.load_rollbacks()
    config = training_run.config
    while True:
        branch = branches[-1]
        training_run.restore_parent_logs(branches)
        try:
            return launch(
                config,
                seed=training_run.seed,
                tokens=training_run.tokens.storage,
                compatibility_key=training_run.full_compatibility_key(branch),
                folder=branch.folder(training_run.folder),
                on_metrics=on_metrics,
                skip=branch.skip,
                checkpoint_url=training_run.checkpoint_url(branch),
                resume_point=training_run.resume_point(branches),
                base_model=training_run.base_model.storage if training_run.base_model else None,
                rendezvous=training_run.rendezvous,
            )
        except TrainingDiverged as spoilt:
            facts = spoilt.details
        # A checkpoint with the step before the one to blame may hold the update that did it.
        new = branch.next_rollback(
            facts, training_run.last_good_step(branches, facts["first_bad_step"] - 1)
        )
        if new.number > config.run.max_rollbacks:
            told = "; ".join(str(one) for one in branches[1:])
            raise TrainingConfigError(
                f"training {config.name}: {describe_divergence(facts['kind'], facts['loss'])} in step {facts['first_bad_step'] + 1}, after "
                f"{len(branches) - 1} of {config.run.max_rollbacks} branches"
                + (f" ({told})" if told else "")
                + "; lower its lr, raise its warmup_fraction, or look at the batches"
            )
        training_run.start_rollback(branches, new)
        branches.append(new)
        log.warning("training %s: %s", config.name, new)
        on_rollback(new)
