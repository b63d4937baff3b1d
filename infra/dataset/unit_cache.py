"""The unit cache: which units of work are done, and where their parts are.

An entry is named by everything that a unit's output depends on: stage, code, configuration and the
unit's own input. It lists the unit's parts with their checksums, in the data set for which they were
made first. Another data set of which they are a part refers to them there: nothing is copied.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from infra.compute.cluster import DaskCluster
from infra.dataset.dataset import open_dataset
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.manifest import DATASET_DEPTH, DatasetNotFoundError, IntegrityError, PartRecord
from infra.store.storage import Storage

UNIT_CACHE_FOLDER = "unit_cache"
LOOKUP_THREADS = 16  # entries that are read at once


@dataclass(frozen=True)
class UnitOutput:
    """Where and under which names a unit writes.

    Attributes:
        storage: the data set's folder.
        stage: the stage of the data set.
        deterministic: whether the files' names leave out their digest.
        part_index: number of the unit's first part.
        entry_key: name of its entry in the stage's cache.
    """

    storage: Storage
    stage: str
    deterministic: bool
    part_index: int
    entry_key: str

    @property
    def folder(self) -> str:
        """The data set's folder below the storage root."""
        return "/".join(self.storage.url.rstrip("/").split("/")[-DATASET_DEPTH:])

    def part_name(self, chunk: int) -> str:
        """The name of the unit's first part (0) or of a further one."""
        return f"{self.part_index:05d}" if chunk == 0 else f"{self.part_index:05d}-{chunk:03d}"


@dataclass(frozen=True)
class CacheEntry:
    """The parts of a unit that is done, and the folder below the storage root that holds them."""

    folder: str
    parts: Sequence[PartRecord]

    def records_for(self, output: UnitOutput) -> list[PartRecord]:
        """The parts as a data set lists them in which the unit has this output."""
        folder = None if self.folder == output.folder else self.folder
        return [
            replace(part, name=output.part_name(chunk), folder=folder)
            for chunk, part in enumerate(self.parts)
        ]


def make_entry_key(stage: str, code: str | None, config: Mapping[str, Any], key: str) -> str:
    """Return the name of a unit's entry; ``key``: digest of what else its output depends on."""
    name = json_sha256({"stage": stage, "code": code, "config": config, "key": key})
    return f"{name[:2]}/{name}.json"


def write_entry(
    cache: Storage, output: UnitOutput, parts: Sequence[Mapping[str, Any]], *, durable: bool
) -> None:
    """Write a unit's entry, after its parts (``PartRecord.to_json``); wait for the disk if durable."""
    entry = {"folder": output.folder, "parts": parts}
    cache.write(output.entry_key, json.dumps(entry, sort_keys=True).encode(), durable=durable)


def read_entry(cache: Storage, entry_key: str) -> CacheEntry | None:
    """Read an entry of the stage's cache; ``None`` if it is missing or damaged."""
    try:
        value = json.loads(cache.read(entry_key))
        return CacheEntry(value["folder"], [PartRecord.from_json(part) for part in value["parts"]])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def find_finished_units(
    root: Storage, cluster: DaskCluster, outputs: Sequence[UnitOutput], hold: Callable[..., None]
) -> dict[int, list[PartRecord]]:
    """Look up the parts of units that are done, by the position of the unit.

    What a committed data set lists is taken over without being read. Files of a data set that is
    not committed, such as those of a run that crashed, are hashed on the workers first.

    Args:
        root: of the store.
        cluster: where files are hashed.
        outputs: of the units now, all of one stage.
        hold: keeps folders from being deleted (``Context.hold``).
    """
    if not outputs:
        return {}
    cache = root.subdir(UNIT_CACHE_FOLDER, outputs[0].stage)
    with ThreadPoolExecutor(LOOKUP_THREADS) as pool:
        entries = pool.map(partial(read_entry, cache), (output.entry_key for output in outputs))
        cached = {index: entry for index, entry in enumerate(entries) if entry is not None}
    hold(*{entry.folder for entry in cached.values()})
    trusted = _find_committed(root, outputs[0].folder, cached)
    doubtful = [index for index in cached if index not in trusted]
    payloads = [
        (root.subdir(*cached[index].folder.split("/")), cached[index].parts) for index in doubtful
    ]
    for position, intact in cluster.map(_check_parts, payloads):
        if intact:
            trusted.add(doubtful[position])
    return {index: cached[index].records_for(outputs[index]) for index in sorted(trusted)}


def _find_committed(root: Storage, own_folder: str, cached: Mapping[int, CacheEntry]) -> set[int]:
    """The positions of entries whose files are listed, as they are, by a committed data set.

    A manifest lists the parts it has in other folders, too: the newest one answers for nearly all.
    Folders are looked at in the order of their digests, so about log n of n manifests are read.
    """
    listed: set[tuple[str, str, str]] = set()
    by_folder: dict[str, list[int]] = {}
    for index, entry in cached.items():
        by_folder.setdefault(entry.folder, []).append(index)

    def unlisted(folder: str) -> list[int]:
        return [
            index
            for index in by_folder[folder]
            for part in cached[index].parts
            for file in part.files.values()
            if (folder, file.name, file.sha256) not in listed
        ]

    def add_manifest(folder: str) -> bool:
        try:
            manifest = open_dataset(root.subdir(*folder.split("/"))).manifest
        except (DatasetNotFoundError, IntegrityError):
            return False
        listed.update(
            (where, file.name, file.sha256) for where, file in manifest.located_files(folder)
        )
        return True

    others = sorted(by_folder.keys() - {own_folder})
    missing = [folder for folder in others if unlisted(folder) and not add_manifest(folder)]
    # A manifest may have been deleted, and files kept for another data set of the same source.
    for prefix in {folder.rpartition("-")[0] for folder in missing if unlisted(folder)}:
        stage = prefix.split("/")[0]
        for folder in (f"{stage}/{name}" for name in root.list_folders(stage)):
            if folder.rpartition("-")[0] == prefix and folder not in missing:
                add_manifest(folder)
    return cached.keys() - {index for folder in by_folder for index in unlisted(folder)}


def _check_parts(folder: Storage, parts: Sequence[PartRecord]) -> bool:
    """Whether the files of parts are as recorded; they then outlive a power cut, too."""
    for file in (file for part in parts for file in part.files.values()):
        try:
            if bytes_sha256(folder.read(file.name)) != file.sha256:
                return False
            folder.fsync(file.name)  # the run that wrote it may have been killed before it did
        except FileNotFoundError:
            return False
    return True
