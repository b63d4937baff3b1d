"""Checkpoints as files: a folder of shards that counts only with its marker, which is written last.

A checkpoint is a folder ``step-000000100`` of ``torch.distributed.checkpoint``, on this machine or
in an object store. Its marker ``list_complete.json`` names every file with its length. A crash before the
marker leaves a folder that nothing reads and the next save sweeps away.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.errors import UserError
from infra.store.storage import Storage

log = logging.getLogger(__name__)

MARKER = "complete.json"
MISMATCH_HINTS = {
    "shards": "other tokens",
    "tokenizer": "another tokenizer",
    "init_from": "other weights at its start",
    "skip": "other batches left out",
    "seed": "another seed",
}


class CheckpointMismatchError(UserError):
    """A checkpoint that was made from other data or with another configuration."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        storage: its folder.
        step: steps done; the next step's number, hence the position in the data.
        world_size: processes that wrote it.
        compatibility_key: what its weights depend on, by name.
        metadata: what else the loop wants back.
        files: its files, with their bytes.
    """

    storage: Storage
    step: int
    world_size: int
    compatibility_key: Mapping[str, Any]
    metadata: Mapping[str, Any]
    files: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its folder."""
        return checkpoint_name(self.step)

    def require_compatible(self, compatibility_key: Mapping[str, Any]) -> None:
        """Raise ``CheckpointMismatchError`` if it differs in what weights depend on; names what."""
        names = sorted(compatibility_key.keys() | self.compatibility_key.keys())
        other = [
            name
            for name in names
            if self.compatibility_key.get(name) != compatibility_key.get(name)
        ]
        if other:
            told = "; ".join(
                f"made with {name} = {self.compatibility_key.get(name)!r}, this run has {compatibility_key.get(name)!r}"
                for name in other
            )
            kinds = list(
                dict.fromkeys(MISMATCH_HINTS.get(name, "another configuration") for name in other)
            )
            raise CheckpointMismatchError(
                f"{self.storage.url} is of a run with {' and '.join(kinds)}: {told}; "
                f"remove the folder to begin anew"
            )


def checkpoint_name(step: int) -> str:
    """The folder of a checkpoint after so many steps."""
    return f"step-{step:09d}"


def list_complete(root: Storage) -> list[Checkpoint]:
    """The complete checkpoints below ``root``, oldest first.

    One whose files are not all there with their length is left out, and the log tells it.
    """
    found = []
    for name in root.list_folders():
        folder = root.subdir(name)
        if not name.startswith("step-") or not folder.exists(MARKER):
            continue
        value = json.loads(folder.read(MARKER))
        missing = [
            file for file, size in value["files"].items() if not _has_size(folder, file, size)
        ]
        if missing:
            log.warning("%s is not whole (%s) and is passed over", folder.url, ", ".join(missing))
            continue
        found.append(Checkpoint(folder, **value))
    return found


def write_marker(folder: Storage, marker: Mapping[str, Any]) -> None:
    """Declare a checkpoint complete: all at once, and on the disk before it counts.

    Args:
        folder: the checkpoint's.
        marker: the fields of ``Checkpoint``, but for its store and files.
    """
    files = {name: folder.size(name) for name in folder.list_files() if name != MARKER}
    folder.write(MARKER, json.dumps({**marker, "files": files}, sort_keys=True).encode())


def remove_incomplete(root: Storage) -> list[Checkpoint]:
    """Remove what crashes have left of checkpoints that were never, or are not, complete.

    Returns:
        As ``list_complete``.
    """
    found = list_complete(root)
    whole = {item.name for item in found}
    for name in root.list_folders():
        if name.startswith("step-") and name not in whole:
            remove_checkpoint(root.subdir(name))
    return found


def remove_checkpoint(folder: Storage) -> None:
    """Take the marker away first, so that no half-removed checkpoint counts as complete."""
    folder.remove(MARKER)
    folder.remove_tree()


def _has_size(folder: Storage, name: str, size: int) -> bool:
    try:
        return folder.size(name) == size
    except FileNotFoundError:
        return False
