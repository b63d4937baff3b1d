"""Where a run's checkpoints lie, and which of them stay."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from infra.store.storage import Storage
from lm.checkpoint.marker import Checkpoint
from lm.config.train import TrainConfig


@dataclass(frozen=True)
class ResumePoint:
    """Where a run begins that has no checkpoint of its own: at one of another run.

    Attributes:
        url: of the other run's checkpoints.
        step: of the one to begin from.
        compatibility_key: what that must agree on.
    """

    url: str
    step: int
    compatibility_key: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class CheckpointStore:
    """Where checkpoints are, and which of them stay.

    Attributes:
        storage: their folder.
        folder: of this machine, where the run works: its log goes along with its checkpoints.
        keep_last: number of newest ones to keep.
        keep_interval: those of every so many steps stay as well; 0: none.
        timeout_s: seconds that a store may be away.
        resume_point: where a branch begins.
    """

    storage: Storage
    folder: Path
    keep_last: int = 2
    keep_interval: int = 0
    timeout_s: float = 600.0
    resume_point: ResumePoint | None = None

    @property
    def staging(self) -> Path:
        """For shards on their way to or from a store elsewhere."""
        return self.folder / "staging"

    def is_permanent(self, step: int) -> bool:
        """Whether the checkpoint after so many steps stays while newer ones come."""
        return self.keep_interval > 0 and step % self.keep_interval == 0

    def expired(self, existing: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        """Which of the complete checkpoints, oldest first, need not stay beside a new one."""
        last = max(0, len(existing) + 1 - self.keep_last)
        return [item for item in existing[:last] if not self.is_permanent(item.step)]

    @classmethod
    def from_config(
        cls,
        config: TrainConfig,
        folder: Path,
        url: str | None = None,
        resume_point: Mapping[str, Any] | None = None,
    ) -> Self:
        """The shelf of a run that works in ``folder``; without ``url`` it is in there, too."""
        return cls(
            Storage(url or str(folder / "checkpoints")),
            folder,
            config.run.keep_last,
            config.run.keep_interval,
            config.run.storage_timeout,
            ResumePoint(**resume_point) if resume_point else None,
        )
