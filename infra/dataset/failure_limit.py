"""A limit of failed documents: a bug of ours never empties a data set quietly."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow.compute as pc

from infra.dataset.dataset import PartRef
from infra.dataset.ledger import FAILED
from infra.dataset.manifest import Counts
from infra.errors import UserError


class TooManyFailuresError(UserError):
    """So many documents failed that the stage's code or settings must be at fault."""


class FailureLimit(NamedTuple):
    """How many documents of a data set may fail: the larger of a number and a fraction of them."""

    documents: int
    fraction: float


def check_failures(name: str, limit: FailureLimit | None, parts: Sequence[PartRef]) -> None:
    """Raise ``TooManyFailuresError`` if more documents of ``name``, a stage and source, failed."""
    counts = sum((part.record.counts for part in parts), Counts())
    failed = sum(counts.failed.values())
    if limit is None or failed <= max(limit.documents, limit.fraction * counts.n_in):
        return
    part = next(part for part in parts if part.record.counts.failed)
    first = part.verdicts().filter(pc.field("verdict") == FAILED).slice(0, 1).to_pylist()[0]
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(counts.failed.items()))
    raise TooManyFailuresError(
        f"{name}: {failed:,} of {counts.n_in:,} documents failed ({reasons}); at most "
        f"{limit.fraction:.0%} may. The first: {first['url'] or first['id']}, {first['reason']}: "
        f"{first['evidence']}. Nothing was committed. Unless a setting explains it, this is a bug: "
        f"please report it with this message"
    )
