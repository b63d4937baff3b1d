"""Takes a run to its end, over as many branches as its recipe allows."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from infra.dataset.dataset import Dataset
from infra.store.retry import ask
from infra.store.storage import Storage
from lm.checkpoint.logs import LOGS
from lm.checkpoint.marker import Checkpoint, complete
from lm.checkpoint.retention import Start
from lm.config.train import TrainConfig
from lm.launch.rollback_log import FILE, Branch, note, opened
from lm.launch.torchrun import TrainingRefused, TrainingSpoilt, launch
from lm.metrics.goodput import METRICS
from lm.train.loss_spike import happened

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Trunk:
    """What all branches of a run have in common.

    Attributes:
        config: what to train.
        seed: the recipe's.
        tokens: the token shards.
        folder: of the trunk.
        identity: what a checkpoint must agree on besides the batches that are left out.
        base: the model whose weights it starts with.
        meet: where other machines are told of the run.
    """

    config: TrainConfig
    seed: int
    tokens: Dataset
    folder: Path
    identity: Mapping[str, Any]
    base: Dataset | None = None
    meet: Storage | None = None

    def url(self, branch: Branch) -> str:
        """Of a branch's checkpoints."""
        folder = branch.folder(self.folder)
        if self.config.checkpoints is None:
            return str(folder / "checkpoints")
        root = Storage(self.config.checkpoints)
        path = root.local()
        return f"{(str(path) if path else root.url).rstrip('/')}/{folder.name}"

    def store(self, branch: Branch) -> Storage:
        """A branch's checkpoints."""
        return Storage(self.url(branch))

    def named(self, branch: Branch) -> dict[str, Any]:
        """What a branch's checkpoints must agree on."""
        return {**self.identity, "skip": [list(one) for one in branch.skip]}

    def complete(self, branch: Branch) -> list[Checkpoint]:
        """A branch's complete checkpoints, oldest first."""
        store = self.store(branch)
        return self._ask(store, f"reading {store.url}", partial(complete, store))

    def branches(self) -> list[Branch]:
        """The trunk itself and its branches so far, oldest first."""
        store = self.store(Branch())
        return self._ask(store, f"reading {store.url}", partial(opened, store))

    def open_branch(self, branches: Sequence[Branch], new: Branch) -> None:
        """Give the last run up for a branch: from now on the run goes on there.

        First the log goes beside the checkpoints, where any machine finds it.
        """
        store, folder = self.store(branches[-1]), branches[-1].folder(self.folder)
        for name in LOGS:
            send = partial(store.upload, folder / name, name)
            self._ask(store, f"writing {store.url}/{name}", send)
        shutil.rmtree(new.folder(self.folder), ignore_errors=True)
        trunk = self.store(Branch())
        self._ask(trunk, f"writing {trunk.url}/{FILE}", partial(note, trunk, [*branches, new]))

    def begin(self, branches: Sequence[Branch]) -> None:
        """Give the last branch, if it has no log on this machine, that of its parent.

        The branch takes back what followed its checkpoint.
        """
        branch = branches[-1]
        if branch.parent is None or (branch.folder(self.folder) / METRICS).exists():
            return
        for name in LOGS:  # the log itself comes last
            self._get(branches[branch.parent], name, branch.folder(self.folder) / name)

    def abandoned(self, branch: Branch) -> Path:
        """The log of a run that was given up."""
        path = self.folder / "fetched" / branch.name / METRICS
        self._get(branch, METRICS, path)
        return path

    def good(self, branches: Sequence[Branch], before: int) -> int | None:
        """Steps at the newest checkpoint on the last branch's way of at most ``before`` steps.

        If its own and the one where it began are later, one of its parents' before it branched off.
        """
        branch = branches[-1]
        while True:
            own = [item.step for item in self.complete(branch) if item.step <= before]
            if own:
                return max(own)
            if branch.parent is None or branch.good is None:
                return None
            before, branch = min(before, branch.good), branches[branch.parent]

    def start(self, branches: Sequence[Branch]) -> Start | None:
        """Where the last branch begins, whichever run made that checkpoint."""
        good, parent = branches[-1].good, branches[-1].parent
        while good is not None and parent is not None:
            for item in self.complete(branches[parent]):
                if item.step == good:
                    return Start(self.url(branches[parent]), good, self.named(branches[parent]))
            parent = branches[parent].parent
        return None

    def kept(self, branches: Sequence[Branch]) -> list[Path]:
        """Folders with the last checkpoint and with those that ``keep_every`` asks for."""
        branch, limit = branches[-1], None
        taken: list[Checkpoint] = self.complete(branch)[-1:]
        every = self.config.keep_every
        while every:
            for item in self.complete(branch):
                before = limit is None or item.step <= limit
                if before and item.step % every == 0 and item.name not in {c.name for c in taken}:
                    taken.append(item)
            if branch.parent is None or branch.good is None:
                break
            branch, limit = branches[branch.parent], branch.good
        return [self._here(item) for item in taken]

    def _here(self, item: Checkpoint) -> Path:
        path = item.store.local()
        if path is not None:
            return path
        folder = self.folder / "fetched" / item.name
        for name in (*item.files, "complete.json"):
            get = partial(item.store.download, name, folder / name)
            self._ask(item.store, f"reading {item.store.url}/{name}", get)
        return folder

    def _get(self, branch: Branch, name: str, path: Path) -> None:
        store = self.store(branch)
        self._ask(store, f"reading {store.url}/{name}", partial(store.download, name, path))

    def _ask(self, store: Storage, what: str, do: Callable[[], T]) -> T:
        return ask(store, what, do, self.config.store_patience)


def to_the_end(
    trunk: Trunk,
    heard: Callable[[dict[str, Any]], None],
    branched: Callable[[Branch], None],
) -> dict[str, Any]:
    """Train on the last branch that there is, opening another whenever the weights are spoilt.

    Args:
        trunk: the run.
        heard: called with each line of the log.
        branched: called with each new branch.

    Returns:
        As ``launch``.

    Raises:
        TrainingRefused: if another branch would be one more than the recipe allows; tells all.
    """
    branches = trunk.branches()
    config = trunk.config
    while True:
        branch = branches[-1]
        trunk.begin(branches)
        try:
            return launch(
                config,
                seed=trunk.seed,
                tokens=trunk.tokens.storage,
                identity=trunk.named(branch),
                folder=branch.folder(trunk.folder),
                heard=heard,
                skip=branch.skip,
                checkpoints=trunk.url(branch),
                start=trunk.start(branches),
                base=trunk.base.storage if trunk.base else None,
                meet=trunk.meet,
            )
        except TrainingSpoilt as spoilt:
            facts = spoilt.facts
        # A checkpoint with the step before the one to blame may hold the update that did it.
        new = branch.after(facts, trunk.good(branches, facts["first"] - 1))
        if new.number > config.branches:
            told = "; ".join(str(one) for one in branches[1:])
            raise TrainingRefused(
                f"training {config.name}: {happened(facts['kind'], facts['loss'])} in step {facts['first'] + 1}, after "
                f"{len(branches) - 1} of {config.branches} branches"
                + (f" ({told})" if told else "")
                + "; lower its learning_rate, raise its warmup, or look at the batches"
            )
        trunk.open_branch(branches, new)
        branches.append(new)
        log.warning("training %s: %s", config.name, new)
        branched(new)
