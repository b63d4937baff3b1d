"""Complete checkpoints: folders of shards with a marker, which is written last; which are kept.

A checkpoint is a folder ``step-000000100`` of ``torch.distributed.checkpoint``, on this machine or
in an object store. Its marker ``complete.json`` lists every file with its length and SHA-256. A crash
before the marker leaves a folder that is never read; the next save removes it.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.store.storage import Storage

log = logging.getLogger(__name__)

MARKER = "complete.json"
MISMATCH_HINTS = {
    "shards": "other tokens",
    "tokenizer": "another tokenizer",
    "init_from": "other initial weights",
    "seed": "another seed",
}


class CheckpointMismatchError(UserError):
    """A checkpoint that was made from other data or with another configuration."""


@dataclass(frozen=True)
class FileDigest:
    """Length and SHA-256 of a file."""

    bytes: int
    sha256: str

    @staticmethod
    def from_path(path: Path) -> "FileDigest":
        """Read a file on this machine."""
        with path.open("rb") as file:
            return FileDigest(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        storage: its folder.
        step: steps done, which is also the next 0-based step and so the position in the data.
        world_size: number of processes that wrote it.
        compatibility_key: what its weights depend on, by name.
        metadata: JSON values of the training loop.
        files: its files.
    """

    storage: Storage
    step: int
    world_size: int
    compatibility_key: Mapping[str, Any]
    metadata: Mapping[str, Any]
    files: Mapping[str, FileDigest] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of its folder."""
        return checkpoint_name(self.step)

    def find_damaged(self, folder: Path) -> list[str]:
        """Return which files of a copy on this machine differ from what was saved."""
        paths = {name: folder / name for name in self.files}
        return [
            name
            for name, path in paths.items()
            if not path.exists() or FileDigest.from_path(path) != self.files[name]
        ]

    def require_compatible(self, compatibility_key: Mapping[str, Any]) -> None:
        """Raise ``CheckpointMismatchError`` with every name whose value differs."""
        own = self.compatibility_key
        names = sorted(compatibility_key.keys() | own.keys())
        differing = [name for name in names if own.get(name) != compatibility_key.get(name)]
        if differing:
            details = "; ".join(
                f"made with {name} = {own.get(name)!r}, this run has {compatibility_key.get(name)!r}"
                for name in differing
            )
            hints = dict.fromkeys(
                MISMATCH_HINTS.get(name, "another configuration") for name in differing
            )
            raise CheckpointMismatchError(
                f"{self.storage.url} is of a run with {' and '.join(hints)}: {details}; "
                "remove the folder to start again"
            )


@dataclass(frozen=True)
class CheckpointStore:
    """Where the checkpoints of a training run are, and which of them are kept.

    Attributes:
        storage: their folder.
        folder: where the run works on this machine; its log is saved with each checkpoint.
        keep_last: number of newest ones to keep.
        keep_interval: those whose step is a multiple of this are kept as well; 0: none.
        timeout_s: for which a remote store may be unreachable.
    """

    storage: Storage
    folder: Path
    keep_last: int = 2
    keep_interval: int = 0
    timeout_s: float = 600.0

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


def checkpoint_name(step: int) -> str:
    """Return the folder of a checkpoint after so many steps."""
    return f"step-{step:09d}"


def list_complete(root: Storage) -> list[Checkpoint]:
    """Return the complete checkpoints below ``root``, oldest first.

    One with a missing or shortened file, or of another version of the format, is skipped, with a
    warning. Content is compared when a checkpoint is restored.
    """
    checkpoints = []
    for name in root.list_folders():
        folder = root.subdir(name)
        if not name.startswith("step-") or not folder.exists(MARKER):
            continue
        try:
            value = json.loads(folder.read(MARKER))
            files = {file: FileDigest(**digest) for file, digest in value.pop("files").items()}
            checkpoint = Checkpoint(folder, **value, files=files)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("skipping the checkpoint %s: its %s: %r", folder.url, MARKER, error)
            continue
        damaged = [file for file, item in files.items() if not _has_size(folder, file, item.bytes)]
        if damaged:
            log.warning("skipping the checkpoint %s: damaged %s", folder.url, ", ".join(damaged))
            continue
        checkpoints.append(checkpoint)
    return checkpoints


def write_marker(checkpoint: Checkpoint) -> None:
    """Mark a checkpoint complete, atomically and durably."""
    value = {
        "step": checkpoint.step,
        "world_size": checkpoint.world_size,
        "compatibility_key": dict(checkpoint.compatibility_key),
        "metadata": dict(checkpoint.metadata),
        "files": {name: asdict(item) for name, item in checkpoint.files.items()},
    }
    checkpoint.storage.write(MARKER, json.dumps(value, sort_keys=True).encode())


def remove_incomplete(root: Storage) -> list[Checkpoint]:
    """Remove incomplete and damaged checkpoints; return the complete ones, oldest first."""
    checkpoints = list_complete(root)
    complete = {item.name for item in checkpoints}
    for name in root.list_folders():
        if name.startswith("step-") and name not in complete:
            remove_checkpoint(root.subdir(name))
    return checkpoints


def remove_checkpoint(folder: Storage) -> None:
    """Remove a checkpoint, the marker first, so that a part of it never counts as complete."""
    folder.remove(MARKER)
    folder.remove_tree()


def _has_size(folder: Storage, name: str, size: int) -> bool:
    try:
        return folder.size(name) == size
    except FileNotFoundError:
        return False
