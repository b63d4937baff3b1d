"""What becomes of a run whose weights are spoilt: a branch from before, without the bad batches.

The trunk works in a folder, branch ``n`` beside it in ``{folder}.rollback-n``. Which branches there
are stands in ``rollbacks.json`` beside the trunk's checkpoints, which is written before a branch
begins: whoever goes on after a crash, on this machine or on another, goes on with the last of them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from infra.store.storage import Storage
from lm.data.shuffle import batch_for_step, merge_ranges
from lm.train.loss_spike import describe_divergence

ROLLBACKS_FILE = "rollbacks.json"

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Rollback:
    """A run and how it came about.

    Attributes:
        number: 0 is the trunk.
        skip: half-open ranges of batch numbers that it leaves out, ascending.
        parent: number of the run that it branched off from.
        from_step: steps done at the parent's checkpoint where it begins; ``None``: at the beginning.
        spike_step: the parent's step, from 1, whose loss was bad.
        skipped_steps: the half-open range of the parent's steps, from 0, that are left out for it.
        kind: of what was bad: ``not_finite`` or ``spike``.
        loss: of the blamed step, as text, since it may be no number.
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
        """In records and messages."""
        return f"rollback-{self.number}"

    def folder(self, base_folder: Path) -> Path:
        """Where it works."""
        return (
            base_folder.with_name(f"{base_folder.name}.{self.name}") if self.number else base_folder
        )

    def next_rollback(self, divergence: Mapping[str, Any], from_step: int | None) -> Self:
        """The next branch: what was bad is left out from now on.

        That is all from the step before the one to blame, whose update may have done it, to the
        step where it was found out.

        Args:
            divergence: as ``Spoilt.facts``.
            from_step: steps done at the checkpoint where the branch begins.
        """
        first, end = (
            max(from_step or 0, divergence["first_bad_step"] - 1),
            max(divergence["step"], divergence["first_bad_step"] + 1),
        )
        batches = [batch_for_step(step, self.skip) for step in range(first, end)]
        return replace(
            self,
            number=self.number + 1,
            skip=tuple(merge_ranges((*self.skip, *((batch, batch + 1) for batch in batches)))),
            parent=self.number,
            from_step=from_step,
            spike_step=divergence["first_bad_step"] + 1,
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
        begin = (
            "the beginning"
            if self.from_step is None
            else f"the checkpoint of step {self.from_step}"
        )
        out = ", ".join(f"{first} to {end - 1}" for first, end in self.skip)
        return (
            f"{what} in step {self.spike_step} of rollback-{self.parent}: {self.name} goes on from {begin} "
            f"without the batches {out}"
        )


def load_rollbacks(store: Storage) -> list[Rollback]:
    """The trunk, whose checkpoints are in this store, and its branches so far, oldest first."""
    values = json.loads(store.read(ROLLBACKS_FILE)) if store.exists(ROLLBACKS_FILE) else []
    return [Rollback(), *(_rollback_from_json(value) for value in values)]


def save_rollbacks(store: Storage, rollbacks: Sequence[Rollback]) -> None:
    """Note the trunk's branches: from now on the run goes on with the last of them."""
    store.write(ROLLBACKS_FILE, to_json(rollbacks))


def to_json(rollbacks: Sequence[Rollback]) -> bytes:
    """The record of all branches but the trunk."""
    return json.dumps([asdict(branch) for branch in rollbacks[1:]], indent=1).encode()


def _rollback_from_json(value: Mapping[str, Any]) -> Rollback:
    bad = value["skipped_steps"]
    skip = tuple((first, end) for first, end in value["skip"])
    return Rollback(**{**value, "skip": skip, "skipped_steps": (bad[0], bad[1]) if bad else None})
