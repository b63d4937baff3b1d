"""What one stage, or one model, did with a document."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EXPOSED = "exposed"  # verdict of a model's event
HELD_OUT = "held_out"  # verdict of the event of a model that was validated on the document
RECORDED = "recorded"  # verdict of a removal's event
REMOVE = "remove"  # stage of a removal's event


@dataclass(frozen=True)
class Event:
    """What one stage did with the document.

    Attributes:
        path: the stage's data set, relative to the storage root.
        part: the part that holds the document.
        row: its row in the part's ledger.
        verdict: ``kept``, ``dropped`` or ``failed``; ``exposed`` for a model that was trained on
            the document, ``held_out`` for one that was only validated on it; ``recorded`` for a
            removal.
        evidence: the values that the verdict is based on.
        details: what the stage wrote about it: language, cluster, token range, steps.
    """

    stage: str
    path: str
    part: str | None
    row: int | None
    verdict: str
    reason: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
