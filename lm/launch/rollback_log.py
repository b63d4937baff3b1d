"""What becomes of a run whose weights are spoilt: a branch from before, without the bad batches.

The trunk works in a folder, branch ``n`` beside it in ``{folder}.branch-n``. Which branches there
are stands in ``branches.json`` beside the trunk's checkpoints, which is written before a branch
begins: whoever goes on after a crash, on this machine or on another, goes on with the last of them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from infra.store.storage import Storage
from lm.data.shuffle import batch_of, merged
from lm.train.loss_spike import happened

FILE = "branches.json"

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Branch:
    """A run and how it came about.

    Attributes:
        number: 0 is the trunk.
        skip: half-open ranges of batch numbers that it leaves out, ascending.
        parent: number of the run that it branched off from.
        good: steps done at the parent's checkpoint where it begins; ``None``: at the beginning.
        blamed: the parent's step, from 1, whose loss was bad.
        bad: the half-open range of the parent's steps, from 0, that are left out for it.
        kind: of what was bad: ``not_finite`` or ``spike``.
        loss: of the blamed step, as text, since it may be no number.
    """

    number: int = 0
    skip: Ranges = ()
    parent: int | None = None
    good: int | None = None
    blamed: int | None = None
    bad: tuple[int, int] | None = None
    kind: str | None = None
    loss: str | None = None

    @property
    def name(self) -> str:
        """In records and messages."""
        return f"branch-{self.number}"

    def folder(self, trunk: Path) -> Path:
        """Where it works."""
        return trunk.with_name(f"{trunk.name}.{self.name}") if self.number else trunk

    def after(self, spoilt: Mapping[str, Any], good: int | None) -> Self:
        """The next branch: what was bad is left out from now on.

        That is all from the step before the one to blame, whose update may have done it, to the
        step where it was found out.

        Args:
            spoilt: as ``Spoilt.facts``.
            good: steps done at the checkpoint where the branch begins.
        """
        first, end = max(good or 0, spoilt["first"] - 1), max(spoilt["step"], spoilt["first"] + 1)
        batches = [batch_of(step, self.skip) for step in range(first, end)]
        return replace(
            self,
            number=self.number + 1,
            skip=tuple(merged((*self.skip, *((batch, batch + 1) for batch in batches)))),
            parent=self.number,
            good=good,
            blamed=spoilt["first"] + 1,
            bad=(first, end),
            kind=spoilt["kind"],
            loss=str(spoilt["loss"]),
        )

    def __str__(self) -> str:
        if self.parent is None:
            return self.name
        assert self.kind is not None
        assert self.loss is not None
        what = happened(self.kind, float(self.loss))
        begin = "the beginning" if self.good is None else f"the checkpoint of step {self.good}"
        out = ", ".join(f"{first} to {end - 1}" for first, end in self.skip)
        return (
            f"{what} in step {self.blamed} of branch-{self.parent}: {self.name} goes on from {begin} "
            f"without the batches {out}"
        )


def opened(store: Storage) -> list[Branch]:
    """The trunk, whose checkpoints are in this store, and its branches so far, oldest first."""
    values = json.loads(store.read(FILE)) if store.exists(FILE) else []
    return [Branch(), *(_branch(value) for value in values)]


def note(store: Storage, branches: Sequence[Branch]) -> None:
    """Note the trunk's branches: from now on the run goes on with the last of them."""
    store.put(FILE, to_json(branches))


def to_json(branches: Sequence[Branch]) -> bytes:
    """The record of all branches but the trunk."""
    return json.dumps([asdict(branch) for branch in branches[1:]], indent=1).encode()


def _branch(value: Mapping[str, Any]) -> Branch:
    bad = value["bad"]
    skip = tuple((first, end) for first, end in value["skip"])
    return Branch(**{**value, "skip": skip, "bad": (bad[0], bad[1]) if bad else None})
