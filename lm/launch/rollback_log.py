"""Which rollbacks a training has made, and which batches each of them leaves out.

The original run works in a folder, rollback ``n`` beside it in ``{folder}.rollback-n``. The
rollbacks are listed in ``rollbacks.json`` beside the original run's checkpoints, which is written
before a rollback starts: after a crash, this machine or another resumes the last one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from infra.store.storage import Storage
from lm.data.shuffle import batch_for_step, merge_ranges
from lm.train.callbacks.loss_spike import describe_divergence

ROLLBACKS_FILE = "rollbacks.json"

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Rollback:
    """One rollback of a training, or its original run.

    Attributes:
        number: 0 is the original run.
        skip: half-open ranges of batch numbers that it leaves out, ascending.
        parent: number of the run that diverged.
        from_step: steps done at the checkpoint that it starts from; ``None``: it starts anew.
        spike_step: the parent's 1-based step whose loss was bad.
        skipped_steps: the half-open range of the parent's 0-based steps whose batches are left out.
        kind: ``not_finite`` or ``spike``.
        loss: of ``spike_step``, as text, because JSON has no NaN.
    """

    number: int = 0
    skip: Ranges = ()
    parent: int | None = None
    from_step: int | None = None
    spike_step: int | None = None
    skipped_steps: tuple[int, int] | None = None
    kind: str | None = None
    loss: str | None = None

    @property
    def name(self) -> str:
        """Its name in logs and messages."""
        return f"rollback-{self.number}"

    def folder(self, base_folder: Path) -> Path:
        """Return where it works, beside the original run's folder."""
        if self.number == 0:
            return base_folder
        return base_folder.with_name(f"{base_folder.name}.{self.name}")

    def next_rollback(self, divergence: Mapping[str, Any], from_step: int | None) -> Self:
        """Return the rollback that also leaves out the batches that made this run diverge.

        These are the batches from the step before the bad one, whose update may be the cause, to
        the step at which it was detected.

        Args:
            divergence: as ``LossDivergedError.to_json``.
            from_step: steps done at the checkpoint to start from.
        """
        bad_step = divergence["first_bad_step"]
        first, end = max(from_step or 0, bad_step - 1), max(divergence["step"], bad_step + 1)
        batches = [batch_for_step(step, self.skip) for step in range(first, end)]
        return replace(
            self,
            number=self.number + 1,
            skip=tuple(merge_ranges((*self.skip, *((batch, batch + 1) for batch in batches)))),
            parent=self.number,
            from_step=from_step,
            spike_step=bad_step + 1,
            skipped_steps=(first, end),
            kind=divergence["kind"],
            loss=str(divergence["loss"]),
        )

    def __str__(self) -> str:
        if self.parent is None:
            return self.name
        assert self.kind is not None
        assert self.loss is not None
        what = describe_divergence(self.kind, float(self.loss))
        start = (
            "the start" if self.from_step is None else f"the checkpoint of step {self.from_step}"
        )
        batches = ", ".join(f"{first} to {end - 1}" for first, end in self.skip)
        return (
            f"{what} in step {self.spike_step} of rollback-{self.parent}: {self.name} resumes from "
            f"{start} without the batches {batches}"
        )


def load_rollbacks(store: Storage) -> list[Rollback]:
    """Return the original run, whose checkpoints are in this store, and its rollbacks, oldest first."""
    values = json.loads(store.read(ROLLBACKS_FILE)) if store.exists(ROLLBACKS_FILE) else []
    return [Rollback(), *(_from_json(value) for value in values)]


def save_rollbacks(store: Storage, rollbacks: Sequence[Rollback]) -> None:
    """Record the rollbacks: from now on, the training resumes the last of them."""
    store.write(ROLLBACKS_FILE, to_json(rollbacks))


def to_json(rollbacks: Sequence[Rollback]) -> bytes:
    """Return the file of all rollbacks, without the original run."""
    return json.dumps([asdict(rollback) for rollback in rollbacks[1:]], indent=1).encode()


def _from_json(value: Mapping[str, Any]) -> Rollback:
    skip = tuple((first, end) for first, end in value["skip"])
    first, end = value["skipped_steps"]
    return Rollback(**{**value, "skip": skip, "skipped_steps": (first, end)})
