"""What ``gristmill remove`` does: look, record, and mark the models that saw what goes."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.removals.log import append_removals, append_restorations, load_removals
from infra.removals.match import Removal
from infra.store.storage import Storage
from lm.data.sampler import steps_containing
from views.removal.exposure import ExposureRecord, update_exposure
from views.removal.impact import RemovalImpact, compute_impact


@dataclass(frozen=True)
class RemovalResult:
    """What a command did.

    Attributes:
        impact: what each removal takes of the latest run; empty if there is no run.
        new: the removals that were recorded now, or lifted.
        models: models that saw what is removed.
    """

    impact: Sequence[RemovalImpact]
    new: Sequence[Removal]
    models: Sequence[ExposureRecord]


def remove_documents(
    storage: Storage, recipe: str, wanted: Sequence[Removal], note: str | None = None
) -> RemovalResult:
    """Record removals. Raises ``infra.removals.match.InvalidRemovalError``; nothing is recorded then."""
    reached = compute_impact(storage, recipe, wanted, load_removals(storage, recipe))
    new = append_removals(storage, recipe, wanted, note)
    return RemovalResult(reached, new, refresh_exposure(storage, recipe))


def restore_documents(
    storage: Storage, recipe: str, wanted: Sequence[Removal], note: str | None = None
) -> RemovalResult:
    """Record that removals no longer hold. Raises ``infra.removals.log.RemovalNotFoundError``."""
    lifted = append_restorations(storage, recipe, wanted, note)
    return RemovalResult((), lifted, refresh_exposure(storage, recipe))


def refresh_exposure(storage: Storage, recipe: str) -> list[ExposureRecord]:
    """Mark the models of a store that saw what a recipe removed; returns these marks."""
    return update_exposure(storage, recipe, load_removals(storage, recipe), steps_containing)
