"""Collect what runs, what has run, and what is stored. The store decides; no server is asked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from infra.compute.lease import Lease, list_leases
from infra.dataset.manifest import DATASET_DEPTH, MANIFEST
from infra.dataset.step import Steps, steps_with_output
from infra.errors import UserError
from infra.runs.gc import collect_needed, find_deletions
from infra.runs.run_records import (
    RUNS,
    RunNotFoundError,
    RunRecord,
    StageRecord,
    list_recipes,
    list_run_ids,
    load_run,
    run_start,
    with_earlier_results,
)
from infra.store.storage import Storage

RUNNING, CRASHED = "running", "crashed"  # states of runs without a record
MAX_RUNS = 5  # latest runs that are listed of each recipe


@dataclass(frozen=True)
class RunStatus:
    """A run.

    Attributes:
        recipe: its recipe's name.
        run: its id.
        state: ``running``, ``completed``, ``failed``, ``cancelled``, or ``crashed``: it ended
            without a record.
        started: ISO 8601, UTC.
        seconds: how long it took, or has been running; ``None`` if it crashed.
        built: steps that made their data set.
        cached: steps whose data set existed.
        error: why it did not complete.
        report: path of its report below the storage root.
        host: where it runs or crashed, with ``pid``.
        building: data sets that a running run has not committed yet, with the files of each.
    """

    recipe: str
    run: str
    state: str
    started: str
    seconds: float | None
    built: int = 0
    cached: int = 0
    error: str | None = None
    report: str | None = None
    host: str | None = None
    pid: int | None = None
    building: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredData:
    """A committed data set that the latest results of a recipe consist of.

    Attributes:
        recipe: the recipe's name.
        kind: ``segment``, ``corpus``, ``tokens`` or ``model``.
        name: of its source or model; empty for others.
        path: its folder below the storage root.
        built: when the run that made it started, ISO 8601; ``None`` if that is too long ago.
        documents: kept documents; ``None`` for a model.
        text_bytes: UTF-8 bytes of its texts.
        bytes: length of all its files.
        tokens: of its token shards.
        metrics: of a model that was evaluated.
    """

    recipe: str
    kind: str
    name: str
    path: str
    built: str | None
    documents: int | None
    text_bytes: int
    bytes: int
    tokens: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoreStatus:
    """What ``gristmill status`` shows of a store.

    Attributes:
        storage: its URL.
        runs: running ones first, then the latest, newest first.
        data: the latest results of each recipe.
        versions: how many corpora and models (by kind) the store holds in all.
        disk: bytes by folder of the store.
        missing: named recipes that have not run in this store.
    """

    storage: str
    runs: Sequence[RunStatus]
    data: Sequence[StoredData]
    versions: Mapping[str, int]
    disk: Mapping[str, int]
    missing: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "bytes": sum(self.disk.values())}


def collect_status(storage: Storage, recipes: Sequence[str], steps: Steps) -> StoreStatus:
    """Collect the status of a store.

    Args:
        storage: the root of the store.
        recipes: names of recipes to show; all of the store's if there are none.
        steps: the pipeline.
    """
    # Leases first: a run that ends meanwhile is then found by its record.
    leases = [lease for lease in list_leases(storage).values() if lease.recipe]
    sizes = storage.file_sizes()
    folder_bytes, files = Counter[str](), Counter[str]()
    for file, size in sizes.items():
        folder = "/".join(file.split("/")[:DATASET_DEPTH])
        folder_bytes[folder] += size
        files[folder] += 1
    names = set(recipes) or {*list_recipes(storage), *(lease.recipe for lease in leases)}
    runs: list[RunStatus] = []
    data: list[StoredData] = []
    for name in sorted(names):
        records = _latest_records(storage, name)
        own = [lease for lease in leases if lease.recipe == name]
        runs += [*_lease_status(own, sizes, files), *map(_record_status, records)]
        if records:
            data += _stored_data(storage, records, steps, folder_bytes)
    runs.sort(key=lambda run: (run.state == RUNNING, run.run), reverse=True)
    versions = {
        "corpus": _count_datasets(sizes, steps_with_output(steps, "corpus")),
        "model": _count_datasets(sizes, steps_with_output(steps, "model")),
    }
    disk: Counter[str] = Counter()
    for folder, size in folder_bytes.items():
        disk[folder.split("/")[0]] += size
    missing = sorted(names - {run.recipe for run in runs})
    return StoreStatus(storage.url, runs, data, versions, dict(disk), missing)


def reclaimable_bytes(storage: Storage) -> int | None:
    """Return how much ``gristmill gc`` of all recipes of the store would free.

    ``None`` if no run has a record yet: what a first run left when it was killed, its next one uses.
    ``None`` also if a manifest is damaged; ``gc`` then says which.

    It reads every manifest, so it takes longer than the rest.
    """
    recipes = list_recipes(storage)
    if not recipes:
        return None
    try:
        needed = collect_needed(storage, recipes)
    except UserError:
        return None
    return sum(deletion.bytes for deletion in find_deletions(storage, needed))


def _latest_records(storage: Storage, recipe: str) -> list[RunRecord]:
    records = []
    for run in islice(reversed(list_run_ids(storage, recipe)), MAX_RUNS):
        try:
            records.append(load_run(storage, recipe, run))
        except RunNotFoundError:  # not a record
            continue
    return records


def _record_status(record: RunRecord) -> RunStatus:
    cached = sum(stage.cached for stage in record.stages)
    return RunStatus(
        recipe=record.recipe,
        run=record.run,
        state=record.state,
        started=record.started,
        seconds=record.seconds,
        built=len(record.stages) - cached,
        cached=cached,
        error=record.error,
        report=record.report,
    )


def _lease_status(
    leases: Sequence[Lease], sizes: Mapping[str, int], files: Counter[str]
) -> list[RunStatus]:
    """Runs that have no record: those that are running, and those that were killed."""
    result = []
    for lease in leases:
        if lease.ended or f"{RUNS}/{lease.recipe}/{lease.run}.json" in sizes:
            continue
        start = run_start(lease.run)
        building = {
            folder: files[folder] for folder in lease.folders if f"{folder}/{MANIFEST}" not in sizes
        }
        result.append(
            RunStatus(
                recipe=lease.recipe,
                run=lease.run,
                state=RUNNING if lease.is_live else CRASHED,
                started=start.isoformat(timespec="seconds"),
                seconds=(datetime.now(UTC) - start).total_seconds() if lease.is_live else None,
                host=lease.host,
                pid=lease.pid,
                building=building if lease.is_live else {},
            )
        )
    return result


def _stored_data(
    storage: Storage, records: Sequence[RunRecord], steps: Steps, folder_bytes: Counter[str]
) -> list[StoredData]:
    kinds = {
        **{step.name: "segment" for step in steps if not step.inputs},
        **dict.fromkeys(steps_with_output(steps, "corpus"), "corpus"),
        **dict.fromkeys(steps_with_output(steps, "tokens"), "tokens"),
        **dict.fromkeys(steps_with_output(steps, "model"), "model"),
    }
    latest = with_earlier_results(storage, records[0])
    metrics = {model.name: model.metrics for model in latest.models}
    built = {
        stage.fingerprint: record.started
        for record in records
        for stage in record.stages
        if not stage.cached
    }
    result = []
    for stage in latest.stages:
        if (kind := kinds.get(stage.stage)) is None:
            continue
        result.append(
            StoredData(
                recipe=latest.recipe,
                kind=kind,
                name=stage.entry or stage.source or "",
                path=stage.path,
                built=built.get(stage.fingerprint),
                documents=None if kind == "model" else stage.counts.kept,
                text_bytes=stage.text_bytes,
                bytes=folder_bytes[stage.path],
                tokens=_num_tokens(storage, stage) if kind == "tokens" else None,
                metrics=metrics.get(stage.entry or "", {}) if kind == "model" else {},
            )
        )
    return result


def _num_tokens(storage: Storage, stage: StageRecord) -> int | None:
    dataset = stage.try_open(storage)
    by_split = dataset.stats.get("tokens") if dataset is not None else None
    return sum(by_split.values()) if isinstance(by_split, Mapping) else None


def _count_datasets(sizes: Mapping[str, int], stages: Sequence[str]) -> int:
    paths = (name.split("/") for name in sizes if name.endswith(f"/{MANIFEST}"))
    return sum(len(path) == DATASET_DEPTH + 1 and path[0] in stages for path in paths)
