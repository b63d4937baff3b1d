"""Find and delete what no named recipe needs any more (``gristmill gc``).

Needed is: every data set of a recipe's latest run and of its latest completed run, all they were made
from, what stages made from those for themselves, the files of other data sets that these list, the models
that the registry needs, and whatever a running or an interrupted run holds by its lease
(``infra.compute.lease``).
"""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from infra.compute.lease import announce_deletion, list_leases
from infra.dataset.dataset import open_dataset, try_open_dataset
from infra.dataset.manifest import (
    FINGERPRINT_CHARS,
    MANIFEST,
    DatasetNotFoundError,
    IntegrityError,
    Manifest,
    input_path,
)
from infra.dataset.unit_cache import UNIT_CACHE_FOLDER, read_entry
from infra.errors import UserError
from infra.registry.history import needed_folders
from infra.runs.run_records import (
    COMPLETED,
    RunRecord,
    list_recipes,
    list_run_ids,
    load_run,
    run_start,
    with_earlier_results,
)
from infra.store.storage import Storage

WORK_FOLDER = "work"
THREADS = 16
WHOLE_FOLDERS = ("data set", "unfinished", "work")  # kinds of deletions that leave nothing behind
_DATASET_NAME = re.compile(rf".+-[0-9a-f]{{{FINGERPRINT_CHARS}}}")


@dataclass(frozen=True)
class Deletion:
    """Files that are not needed.

    Attributes:
        kind: ``data set``, ``parts`` (of a data set of which other files are needed), ``unfinished``
            (files of a data set that was never committed), ``work`` or ``unit cache``.
        path: their folder below the storage root.
        files: their paths below the storage root.
        bytes: their length.
    """

    kind: str
    path: str
    files: Sequence[str]
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the number of files in place of their names."""
        return {**asdict(self), "files": len(self.files)}


@dataclass
class NeededFiles:
    """What has to stay.

    Attributes:
        datasets: folders of needed data sets.
        files: paths of the files that their manifests list, and of the manifests.
        held: folders that leases hold.
        recipes: whose runs were looked at: the named ones, and those that run now.
        others: recipes of the store whose runs were not looked at.
        leases: files of leases that are of no use any more.
    """

    datasets: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    recipes: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    leases: set[str] = field(default_factory=set)


def collect_needed(
    storage: Storage, recipes: Sequence[str], since: datetime | None = None
) -> NeededFiles:
    """Everything in the store that has to stay for these recipes and for runs in progress.

    Args:
        storage: root of the store.
        recipes: names of the recipes whose data stays.
        since: completed runs that started at this time or later count as well.

    Raises:
        UserError: if a recipe has no run in this store.
    """
    needed = NeededFiles(recipes=set(recipes))
    # Leases first: a run that has ended since is found by its record.
    leases = list_leases(storage)
    needed.recipes |= {lease.recipe for lease in leases.values() if lease.is_live}
    existing = set(list_recipes(storage))
    for recipe in recipes:
        if recipe not in existing:
            names = ", ".join(sorted(existing)) or "none"
            raise UserError(f"{storage.url} has no run of {recipe!r} to keep; recipes: {names}")
    needed.others = existing - needed.recipes
    runs = {name: list_run_ids(storage, name) for name in needed.recipes}
    for file, lease in leases.items():
        # A run that failed or crashed counts until another run of its recipe has ended.
        resumable = lease.recipe in runs and not any(r > lease.run for r in runs[lease.recipe])
        if lease.is_live or resumable:
            needed.held.update(lease.folders)
        else:
            needed.leases.add(file)
    manifests, damaged = _read_manifests(storage)
    roots: set[str] = set()
    stages: set[str] = set()
    for record in _needed_records(storage, runs, since):
        roots |= {stage.path for stage in record.stages}
        stages |= {stage.stage for stage in record.stages}
    for recipe in needed.recipes:
        roots |= needed_folders(storage, recipe)
    needed.datasets = _close_over_inputs(manifests, roots | needed.held)
    for path in sorted(needed.datasets & damaged):
        raise UserError(
            f"{storage.url}/{path}/{MANIFEST} cannot be read, so what it needs is unknown; "
            "nothing was deleted. Run: gristmill verify"
        )
    _add_internal_datasets(manifests, stages, needed.datasets)
    for path in needed.datasets & manifests.keys():
        needed.files.add(f"{path}/{MANIFEST}")
        needed.files |= {f"{where}/{f.name}" for where, f in manifests[path].located_files(path)}
    return needed


def find_deletions(storage: Storage, needed: NeededFiles) -> list[Deletion]:
    """What can be deleted: nothing outside of data sets, work folders and the unit cache."""
    deletions: list[Deletion] = []
    stages = [name for name in storage.list_folders() if _is_stage(storage, name)]
    for stage in stages:
        by_folder: dict[str, dict[str, int]] = {}
        for file, size in storage.file_sizes(stage).items():
            folder = "/".join(file.split("/")[:2])
            if file == folder:
                continue  # an emptied folder, which some object stores list as a file
            if _DATASET_NAME.fullmatch(folder.split("/")[-1]) and folder not in needed.held:
                by_folder.setdefault(folder, {})[file] = size
        for folder, sizes in by_folder.items():
            surplus = {file: size for file, size in sizes.items() if file not in needed.files}
            committed = f"{folder}/{MANIFEST}" in sizes
            whole = "data set" if committed else "unfinished"
            kind = whole if surplus.keys() == sizes.keys() else "parts"
            deletions += _deletion(kind, folder, surplus)
    by_work: dict[str, dict[str, int]] = {}
    held = {folder.rpartition("-")[2] for folder in needed.held}
    for file, size in storage.file_sizes(WORK_FOLDER).items():
        _, stage, name, *_ = [*file.split("/"), "", ""]
        hint_used = (
            not re.fullmatch(rf"[0-9a-f]{{{FINGERPRINT_CHARS}}}", name) and name in needed.recipes
        )
        if name and name not in held and not hint_used:
            by_work.setdefault(f"{WORK_FOLDER}/{stage}/{name}", {})[file] = size
    for folder, sizes in by_work.items():
        deletions += _deletion("work", folder, sizes)
    for stage in storage.list_folders(UNIT_CACHE_FOLDER):
        listed = storage.file_sizes(f"{UNIT_CACHE_FOLDER}/{stage}")
        sizes = {file: size for file, size in listed.items() if file.endswith(".json")}
        with ThreadPoolExecutor(THREADS) as pool:
            stale = pool.map(lambda file: _is_stale(storage, file, needed), sizes)
            surplus = {f: s for (f, s), old in zip(sizes.items(), stale, strict=True) if old}
        deletions += _deletion("unit cache", f"{UNIT_CACHE_FOLDER}/{stage}", surplus)
    return deletions


def delete_unneeded(
    storage: Storage, recipes: Sequence[str], since: datetime | None = None
) -> list[Deletion]:
    """Delete what no named recipe needs (``collect_needed``), while other runs are in progress.

    Raises:
        UserError: if a recipe has no run in this store, or another ``gc`` is running.
    """
    candidates = find_deletions(storage, collect_needed(storage, recipes, since))
    with announce_deletion(storage, [deletion.path for deletion in candidates]):
        announced = {deletion.path for deletion in candidates}
        # Once more: runs may have started or ended since. From now on, others wait.
        needed = collect_needed(storage, recipes, since)
        deletions = [d for d in find_deletions(storage, needed) if d.path in announced]
        for deletion in deletions:
            # Without its manifest, a data set is not read any more.
            for file in sorted(deletion.files, key=lambda name: not name.endswith(MANIFEST)):
                storage.remove(file)
            if deletion.kind in WHOLE_FOLDERS:
                storage.subdir(*deletion.path.split("/")).remove_tree()
        for lease in needed.leases:
            storage.remove(lease)
    return deletions


def _read_manifests(storage: Storage) -> tuple[dict[str, Manifest], set[str]]:
    """The manifests of all data sets of the store by folder, and folders whose manifest is damaged."""
    paths = [
        f"{stage}/{name}"
        for stage in storage.list_folders()
        for name in storage.list_folders(stage)
        if _DATASET_NAME.fullmatch(name)
    ]

    damaged: set[str] = set()

    def read(path: str) -> Manifest | None:
        try:
            return open_dataset(storage.subdir(*path.split("/"))).manifest
        except DatasetNotFoundError:
            return None
        except IntegrityError:
            damaged.add(path)
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        manifests = dict(zip(paths, pool.map(read, paths), strict=True))
    return {path: item for path, item in manifests.items() if item is not None}, damaged


def _needed_records(
    storage: Storage, runs: dict[str, list[str]], since: datetime | None
) -> Iterable[RunRecord]:
    """Return the runs whose data stays.

    Of each recipe: its latest run and latest completed run, with the results of earlier runs that still
    apply, and its completed runs that started at a time or later.
    """
    for recipe, ids in runs.items():
        records = (load_run(storage, recipe, run) for run in reversed(ids))
        latest = next(records, None)
        if latest is None:
            continue
        yield with_earlier_results(storage, latest)
        if latest.state != COMPLETED:
            completed = (record for record in records if record.state == COMPLETED)
            for record in islice(completed, 1):
                yield with_earlier_results(storage, record)
        recent = [run for run in ids if since is not None and run_start(run) >= since]
        yield from (
            record
            for run in recent
            if (record := load_run(storage, recipe, run)).state == COMPLETED
        )


def _close_over_inputs(manifests: dict[str, Manifest], roots: set[str]) -> set[str]:
    needed: set[str] = set()
    queue = list(roots)
    while queue:
        path = queue.pop()
        if path not in needed and path in manifests:
            queue += [input_path(item) for item in manifests[path].inputs]
        needed.add(path)
    return needed


def _add_internal_datasets(
    manifests: dict[str, Manifest], recorded_stages: set[str], needed: set[str]
) -> None:
    """Add data sets that stages made for themselves, such as signatures: no record names these.

    All their inputs are needed; one without inputs, such as a given tokenizer, shares a file.
    """
    grew = True
    while grew:
        digests = {
            file.sha256
            for path in needed & manifests.keys()
            for file in manifests[path].files.values()
        }
        internal = {
            path
            for path, manifest in manifests.items()
            if path not in needed and manifest.stage not in recorded_stages
            if all(input_path(item) in needed for item in manifest.inputs)
            if manifest.inputs or digests & {f.sha256 for f in manifest.files.values()}
        }
        needed |= internal
        grew = bool(internal)


def _is_stage(storage: Storage, name: str) -> bool:
    """Whether a folder of the store holds data sets of ours, rather than other files."""
    if storage.list_folders(f"{UNIT_CACHE_FOLDER}/{name}"):
        return True
    datasets = (try_open_dataset(storage, f"{name}/{path}") for path in storage.list_folders(name))
    return next((item.stage == name for item in datasets if item is not None), False)


def _is_stale(storage: Storage, file: str, needed: NeededFiles) -> bool:
    entry = read_entry(storage, file)
    if entry is None:
        return True
    files = (f"{entry.folder}/{f.name}" for part in entry.parts for f in part.files.values())
    return entry.folder not in needed.held and not all(file in needed.files for file in files)


def _deletion(kind: str, folder: str, sizes: dict[str, int]) -> list[Deletion]:
    return [Deletion(kind, folder, sorted(sizes), sum(sizes.values()))] if sizes else []
