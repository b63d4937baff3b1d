"""Receipts: what says in the store that a unit of work is done, and leads to its parts again.

A receipt is named by all that a unit's output depends on (stage, code, configuration, the unit's own
input) and lists the unit's parts with their checksums, in whichever data set they were made first.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import FileRecord, PartRecord
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.store.storage import Storage

UNIT_CACHE_FOLDER = "receipts"


@dataclass(frozen=True)
class UnitOutput:
    """Where and under which names a unit writes.

    Attributes:
        storage: the data set's folder.
        stage: that the data set is of.
        deterministic: whether the stage's files go without their digest in their name.
        part_index: number of the unit's first part.
        entry_key: name of its receipt among those of the stage.
    """

    storage: Storage
    stage: str
    deterministic: bool
    part_index: int
    entry_key: str

    def part_name(self, chunk: int) -> str:
        """The name of the unit's first part (0) or of a further one."""
        return f"{self.part_index:05d}" if chunk == 0 else f"{self.part_index:05d}-{chunk:03d}"


def make_entry_key(stage: str, code: str, config: Mapping[str, Any], key: str) -> str:
    """The receipt of a unit.

    Args:
        stage: its name.
        code: the stage's code version.
        config: the stage's configuration.
        key: digest of what the unit's output depends on besides.
    """
    name = json_sha256({"stage": stage, "code": code, "config": config, "key": key})
    return f"{name[:2]}/{name}.json"


def write_entry(
    cache: Storage, output: UnitOutput, parts: Sequence[Mapping[str, Any]], *, durable: bool
) -> None:
    """Write a unit's receipt, after its parts (``PartRecord.to_json``); wait for the disk if durable."""
    # The last two names of the folder's URL are the data set's own, wherever the store lies.
    receipt = {"folder": "/".join(output.storage.url.split("/")[-2:]), "parts": parts}
    cache.write(output.entry_key, json.dumps(receipt, sort_keys=True).encode(), durable=durable)


def restore_parts(root: Storage, cache: Storage, output: UnitOutput) -> list[PartRecord] | None:
    """The parts of a unit that was done before, copied here if another data set holds them.

    Args:
        root: of the store.
        cache: the stage's.
        output: of the unit now.

    Returns:
        ``None`` if there is no receipt, or a file it names is gone or has other bytes.
    """
    try:
        receipt = json.loads(cache.read(output.entry_key))
    except (FileNotFoundError, ValueError):
        return None
    home = root.subdir(*receipt["folder"].split("/"))
    parts = [PartRecord.from_json(part) for part in receipt["parts"]]
    moved = []
    for chunk, part in enumerate(parts):
        name = output.part_name(chunk)
        records = {}
        for suffix, file in part.files.items():
            new = file.name.replace(f"part-{part.name}.", f"part-{name}.", 1)
            here = output.storage.url == home.url and new == file.name
            try:
                data = home.read(file.name)
                if bytes_sha256(data) != file.sha256:
                    return None
                if not here:
                    output.storage.write(new, data)
            except FileNotFoundError:
                return None
            records[suffix] = FileRecord(new, file.bytes, file.sha256)
        moved.append(PartRecord(name, part.num_rows, part.text_bytes, part.counts, records))
    return moved
