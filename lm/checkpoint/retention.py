"""Where a run's checkpoints lie, and which of them stay."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from infra.store.storage import Storage
from lm.checkpoint.marker import Checkpoint
from lm.config.train import TrainConfig


@dataclass(frozen=True)
class Start:
    """Where a run begins that has no checkpoint of its own: at one of another run.

    Attributes:
        url: of the other run's checkpoints.
        step: of the one to begin from.
        identity: what that must agree on.
    """

    url: str
    step: int
    identity: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Shelf:
    """Where checkpoints are, and which of them stay.

    Attributes:
        store: their folder.
        folder: of this machine, where the run works: its log goes along with its checkpoints.
        keep: number of newest ones to keep.
        keep_every: those of every so many steps stay as well; 0: none.
        patience: seconds that a store may be away.
        start: where a branch begins.
    """

    store: Storage
    folder: Path
    keep: int = 2
    keep_every: int = 0
    patience: float = 600.0
    start: Start | None = None

    @property
    def staging(self) -> Path:
        """For shards on their way to or from a store elsewhere."""
        return self.folder / "staging"

    def must_keep(self, step: int) -> bool:
        """Whether the checkpoint after so many steps stays while newer ones come."""
        return self.keep_every > 0 and step % self.keep_every == 0

    def superseded(self, before: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        """Which of the complete checkpoints, oldest first, need not stay beside a new one."""
        last = max(0, len(before) + 1 - self.keep)
        return [item for item in before[:last] if not self.must_keep(item.step)]

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        folder: Path,
        url: str | None = None,
        start: Mapping[str, Any] | None = None,
    ) -> Self:
        """The shelf of a run that works in ``folder``; without ``url`` it is in there, too."""
        return cls(
            Storage(url or str(folder / "checkpoints")),
            folder,
            config.keep,
            config.keep_every,
            config.store_patience,
            Start(**start) if start else None,
        )
