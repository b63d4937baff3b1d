"""What ``gristmill remove`` does: look, record, and mark the models that saw what goes."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.removals.log import lift, record, removals
from infra.removals.match import Removal
from infra.store.storage import Storage
from lm.data.sampler import steps_that_saw
from views.removal.exposure import Mark, mark_models
from views.removal.impact import Reached, reach


@dataclass(frozen=True)
class Done:
    """What a command did.

    Attributes:
        reached: what each removal takes of the latest run; empty if there is no run.
        new: the removals that were recorded now, or lifted.
        models: models that saw what is removed.
    """

    reached: Sequence[Reached]
    new: Sequence[Removal]
    models: Sequence[Mark]


def remove(
    storage: Storage, recipe: str, wanted: Sequence[Removal], note: str | None = None
) -> Done:
    """Record removals. Raises ``infra.removals.match.BadRemoval``; nothing is recorded then."""
    reached = reach(storage, recipe, wanted, removals(storage, recipe))
    new = record(storage, recipe, wanted, note)
    return Done(reached, new, marks(storage, recipe))


def undo(storage: Storage, recipe: str, wanted: Sequence[Removal], note: str | None = None) -> Done:
    """Record that removals no longer hold. Raises ``infra.removals.log.NotRemoved``."""
    lifted = lift(storage, recipe, wanted, note)
    return Done((), lifted, marks(storage, recipe))


def marks(storage: Storage, recipe: str) -> list[Mark]:
    """Mark the models of a store that saw what a recipe removed; returns these marks."""
    return mark_models(storage, recipe, removals(storage, recipe), steps_that_saw)
