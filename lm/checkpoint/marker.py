"""Checkpoints as files: a folder of shards that counts only with its marker, which is written last.

A checkpoint is a folder ``step-000000100`` of ``torch.distributed.checkpoint``, on this machine or
in an object store. Its marker ``complete.json`` names every file with its length. A crash before the
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
WHOSE = {
    "shards": "other tokens",
    "tokenizer": "another tokenizer",
    "start_from": "other weights at its start",
    "skip": "other batches left out",
    "seed": "another seed",
}


class OtherRun(UserError):
    """A checkpoint that was made from other data or with another configuration."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        store: its folder.
        step: steps done; the next step's number, hence the position in the data.
        world: processes that wrote it.
        identity: what its weights depend on, by name.
        notes: what else the loop wants back.
        files: its files, with their bytes.
    """

    store: Storage
    step: int
    world: int
    identity: Mapping[str, Any]
    notes: Mapping[str, Any]
    files: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its folder."""
        return name_of(self.step)

    def require(self, identity: Mapping[str, Any]) -> None:
        """Raise ``OtherRun`` if it differs in what weights depend on; names what."""
        names = sorted(identity.keys() | self.identity.keys())
        other = [name for name in names if self.identity.get(name) != identity.get(name)]
        if other:
            told = "; ".join(
                f"made with {name} = {self.identity.get(name)!r}, this run has {identity.get(name)!r}"
                for name in other
            )
            kinds = list(dict.fromkeys(WHOSE.get(name, "another configuration") for name in other))
            raise OtherRun(
                f"{self.store.url} is of a run with {' and '.join(kinds)}: {told}; "
                f"remove the folder to begin anew"
            )


def name_of(step: int) -> str:
    """The folder of a checkpoint after so many steps."""
    return f"step-{step:09d}"


def complete(root: Storage) -> list[Checkpoint]:
    """The complete checkpoints below ``root``, oldest first.

    One whose files are not all there with their length is left out, and the log tells it.
    """
    found = []
    for name in root.folders():
        folder = root.at(name)
        if not name.startswith("step-") or not folder.exists(MARKER):
            continue
        value = json.loads(folder.read(MARKER))
        missing = [file for file, size in value["files"].items() if not _is(folder, file, size)]
        if missing:
            log.warning("%s is not whole (%s) and is passed over", folder.url, ", ".join(missing))
            continue
        found.append(Checkpoint(folder, **value))
    return found


def mark(folder: Storage, marker: Mapping[str, Any]) -> None:
    """Declare a checkpoint complete: all at once, and on the disk before it counts.

    Args:
        folder: the checkpoint's.
        marker: the fields of ``Checkpoint``, but for its store and files.
    """
    files = {name: folder.size(name) for name in folder.list() if name != MARKER}
    folder.put(MARKER, json.dumps({**marker, "files": files}, sort_keys=True).encode())


def tidy(root: Storage) -> list[Checkpoint]:
    """Remove what crashes have left of checkpoints that were never, or are not, complete.

    Returns:
        As ``complete``.
    """
    found = complete(root)
    whole = {item.name for item in found}
    for name in root.folders():
        if name.startswith("step-") and name not in whole:
            remove(root.at(name))
    return found


def remove(folder: Storage) -> None:
    """Take the marker away first, so that no half-removed checkpoint counts as complete."""
    folder.remove(MARKER)
    folder.remove_tree()


def _is(folder: Storage, name: str, size: int) -> bool:
    try:
        return folder.size(name) == size
    except FileNotFoundError:
        return False
