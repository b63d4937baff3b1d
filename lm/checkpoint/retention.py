"""Where a training's checkpoints are, and which of them are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.store.storage import Storage
from lm.checkpoint.marker import Checkpoint


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint of another run that a run without checkpoints starts from.

    Attributes:
        url: folder of the other run's checkpoints.
        step: of the checkpoint.
        compatibility_key: what the checkpoint must agree on.
    """

    url: str
    step: int
    compatibility_key: Mapping[str, Any]


@dataclass(frozen=True)
class CheckpointStore:
    """Where checkpoints are, and which of them are kept.

    Attributes:
        storage: their folder.
        folder: where the run works on this machine; its log is saved with each checkpoint.
        keep_last: number of newest ones to keep.
        keep_interval: those whose step is a multiple of this are kept as well; 0: none.
        timeout_s: for which a remote store may be unreachable.
        resume_point: where to start while there is no checkpoint.
    """

    storage: Storage
    folder: Path
    keep_last: int = 2
    keep_interval: int = 0
    timeout_s: float = 600.0
    resume_point: ResumePoint | None = None

    @property
    def staging(self) -> Path:
        """For shards on their way to or from a remote store."""
        return self.folder / "staging"

    def is_permanent(self, step: int) -> bool:
        """Return whether the checkpoint after so many steps is kept when newer ones are written."""
        return self.keep_interval > 0 and step % self.keep_interval == 0

    def expired(self, existing: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        """Return which complete checkpoints, oldest first, to remove when a new one is complete."""
        count = max(0, len(existing) + 1 - self.keep_last)
        return [item for item in existing[:count] if not self.is_permanent(item.step)]
