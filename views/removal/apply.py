"""Record and undo removals, and update which models were trained on removed documents."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.dataset.step import Steps
from infra.removals.log import append_removals, append_restorations, load_removals
from infra.removals.match import Removal
from infra.store.storage import Storage
from views.removal.exposure import ExposureRecord, update_exposure
from views.removal.impact import RemovalImpact, compute_impact


@dataclass(frozen=True)
class RemovalResult:
    """Result of recording or undoing removals.

    Attributes:
        impact: of each removal on the latest run; empty if there is no run.
        new: the removals that were recorded, or undone, by this call.
        models: models that were trained on removed documents.
    """

    impact: Sequence[RemovalImpact]
    new: Sequence[Removal]
    models: Sequence[ExposureRecord]


def remove_documents(
    storage: Storage,
    recipe: str,
    requested: Sequence[Removal],
    steps: Steps,
    note: str | None = None,
) -> RemovalResult:
    """Record removals.

    Raises:
        InvalidRemovalError: if no document has a license that is to be removed; nothing is
            recorded then.
    """
    active = load_removals(storage, recipe)
    impact = compute_impact(storage, recipe, requested, steps, active)
    new = append_removals(storage, recipe, requested, note)
    return RemovalResult(impact, new, refresh_exposure(storage, recipe, steps))


def restore_documents(
    storage: Storage,
    recipe: str,
    requested: Sequence[Removal],
    steps: Steps,
    note: str | None = None,
) -> RemovalResult:
    """Record that removals no longer apply. Raises ``RemovalNotFoundError``."""
    restored = append_restorations(storage, recipe, requested, note)
    return RemovalResult((), restored, refresh_exposure(storage, recipe, steps))


def refresh_exposure(storage: Storage, recipe: str, steps: Steps) -> list[ExposureRecord]:
    """Update and return the exposure records for the recipe's active removals."""
    return update_exposure(storage, recipe, load_removals(storage, recipe), steps)
