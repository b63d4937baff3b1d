"""Run records: what a run did, one JSON file per run below ``runs/`` of the store.

A record only refers to data sets; their manifests are the source of truth about them.
"""

import json
import platform
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

from infra.dataset.dataset import Dataset, open_dataset, try_open_dataset
from infra.dataset.fingerprint import bytes_sha256
from infra.dataset.manifest import MANIFEST, Counts
from infra.errors import UserError
from infra.store.storage import Storage

RUNS, REPORTS = "runs", "reports"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
RUN_TIME_CHARS = 19  # of a run's id: date, time and milliseconds
MAX_RUNS_BACK = 20  # earlier runs of a recipe that are searched; the last one usually suffices
LIBRARIES = (
    "gristmill prefect dask pyarrow numpy torch tokenizers transformers scrapy trafilatura resiliparse"
).split()


class RunNotFoundError(UserError):
    """There is no record of such a run; the message lists the recipes that have one."""


@dataclass(frozen=True)
class StageRecord:
    """A data set of one run.

    Attributes:
        stage: the stage that made it.
        source: the source it belongs to; ``None`` if it spans them.
        entry: the name of the model, for stages that run once per entry of ``train``.
        path: its folder, relative to the storage root.
        fingerprint: digest of what it was made from.
        counts: documents in and out.
        text_bytes: UTF-8 bytes of its ``text`` column; 0 if it has none.
        seconds: how long this run spent on it.
        cached: whether it was committed before.
        built_seconds: how long the run that built it took; ``None`` if unknown.
        manifest_sha256: SHA-256 of its manifest file.
    """

    stage: str
    source: str | None
    entry: str | None
    path: str
    fingerprint: str
    counts: Counts
    text_bytes: int
    seconds: float
    cached: bool
    built_seconds: float | None
    manifest_sha256: str

    @staticmethod
    def from_dataset(
        data: Dataset,
        *,
        seconds: float,
        cached: bool,
        entry: str | None = None,
        built_seconds: float | None = None,
    ) -> "StageRecord":
        """Record a data set that this run has built or, if it is cached, looked up."""
        return StageRecord(
            stage=data.stage,
            source=data.source,
            entry=entry,
            path="/".join(data.storage.url.rstrip("/").split("/")[-2:]),
            fingerprint=data.fingerprint,
            counts=data.counts,
            text_bytes=sum(part.text_bytes for part in data.manifest.parts),
            seconds=round(seconds, 3),
            cached=cached,
            built_seconds=built_seconds if cached else round(seconds, 3),
            manifest_sha256=bytes_sha256(data.storage.read(MANIFEST)),
        )

    @property
    def label(self) -> str:
        """Its name for a reader: ``annotate site``, ``train tiny``, ``select``."""
        return " ".join(item for item in (self.stage, self.entry or self.source) if item)

    def open(self, root: Storage) -> Dataset:
        """Open the data set (``open_dataset``)."""
        return open_dataset(root.subdir(*self.path.split("/")))

    def try_open(self, root: Storage) -> Dataset | None:
        """Open the data set; ``None`` if it was deleted or its manifest is damaged."""
        return try_open_dataset(root, self.path)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with the counts at the top level: in, kept, dropped, failed."""
        value = {**asdict(self), **self.counts.to_json()}
        del value["counts"]
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "StageRecord":
        """Restore what ``to_json`` returned."""
        counts = {"in", "kept", "dropped", "failed"}
        rest = {key: item for key, item in value.items() if key not in counts}
        return StageRecord(counts=Counts.from_json(value), **rest)


@dataclass(frozen=True)
class ModelRecord:
    """A model of a run: relative paths of its data sets, and its metrics.

    Attributes:
        name: of its entry under ``train``.
        train: folder of the ``train`` data set, relative to the storage root.
        release: folder of its export; ``None`` if it was not exported.
        evaluate: folder of its evaluation; ``None`` if it was not evaluated.
        suites: folder of its results on suites; ``None`` if there are none.
        memorization: folder of what it repeats; ``None`` if that was not measured.
        metrics: named numbers, such as ``bits_per_byte``.
    """

    name: str
    train: str | None = None
    release: str | None = None
    evaluate: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    suites: str | None = None
    memorization: str | None = None


@dataclass(frozen=True)
class FinetunedRecord:
    """A fine-tuned model of a run: relative paths of its data sets.

    Attributes:
        name: of the model.
        entry: name of its entry under ``finetune``; several models may be of one.
        finetune: folder of its weights.
        prepare: folder of its examples.
        release: folder of its export.
        score: folder of its predictions and metrics on the test examples.
        suites: folder of its results on suites; ``None`` if there are none.
    """

    name: str
    entry: str
    finetune: str
    prepare: str | None = None
    release: str | None = None
    score: str | None = None
    suites: str | None = None


@dataclass(frozen=True)
class RunRecord:
    """What a run did.

    Attributes:
        recipe: the recipe's name.
        run: the run's id; the ids of a store sort by time.
        started: ISO 8601, UTC.
        seconds: from start to end.
        state: ``completed``, ``failed`` or ``cancelled``.
        error: why a run did not complete.
        config: the recipe as JSON.
        versions: of Python and the libraries that matter.
        stages: the data sets it built or found, in the order of the pipeline.
        models: one per entry under ``train``.
        finetuned: one per model of ``finetune``.
        report: path of the report page, relative to the storage root.
        flow: the Prefect flow, such as ``retrain``; ``None`` in records of earlier versions.
        reason: why the run was started, as given to the flow.
        retrain_reason: why the models are to be trained again after it; ``None``: they are not.
        versions_registered: by model, the number of its version in the registry (``infra.registry``).
    """

    recipe: str
    run: str
    started: str
    seconds: float
    state: str
    error: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    stages: Sequence[StageRecord] = ()
    models: Sequence[ModelRecord] = ()
    finetuned: Sequence[FinetunedRecord] = ()
    report: str | None = None
    flow: str | None = None
    reason: str | None = None
    retrain_reason: str | None = None
    versions_registered: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the value that is written to the record's file."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        own["stages"] = [stage.to_json() for stage in self.stages]
        own["models"] = [asdict(model) for model in self.models]
        own["finetuned"] = [asdict(model) for model in self.finetuned]
        return own

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "RunRecord":
        """Restore what ``to_json`` returned."""
        stages = [StageRecord.from_json(item) for item in value["stages"]]
        models = [ModelRecord(**item) for item in value["models"]]
        # Records of earlier versions have no fine-tuned models.
        finetuned = tuple(FinetunedRecord(**item) for item in value.get("finetuned", ()))
        converted = {"stages": stages, "models": models, "finetuned": finetuned}
        return RunRecord(**{**value, **converted})


def new_run_id(storage: Storage, now: datetime | None = None) -> str:
    """Create the unique id of a run that starts now.

    It sorts after the ids of all runs in the store, even if the clock of the machine that made one
    of them was ahead.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    runs = [run for name in list_recipes(storage) for run in list_run_ids(storage, name)]
    with suppress(ValueError):  # not a run id
        newest = max(runs, default="")[:RUN_TIME_CHARS]
        last = datetime.strptime(f"{newest}+0000", "%Y%m%d-%H%M%S-%f%z")
        moment = max(moment, last + timedelta(milliseconds=1))
    return f"{moment:%Y%m%d-%H%M%S}-{moment.microsecond // 1000:03d}{secrets.token_hex(2)}"


def run_start(run_id: str) -> datetime:
    """Return the time, to the second, at which a run started, from its id."""
    return datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)


def collect_versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the libraries a result may depend on."""
    versions = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def save_run(storage: Storage, record: RunRecord) -> str:
    """Write a record atomically; return its path relative to the storage root."""
    path = f"{RUNS}/{record.recipe}/{record.run}.json"
    data = json.dumps(record.to_json(), indent=1, ensure_ascii=False) + "\n"
    storage.write(path, data.encode())
    return path


def load_run(storage: Storage, recipe: str, run: str) -> RunRecord:
    """Load a run's record.

    Raises:
        RunNotFoundError: if there is none, or its file is not a record.
    """
    path = f"{RUNS}/{recipe}/{run}.json"
    try:
        return RunRecord.from_json(json.loads(storage.read(path)))
    except FileNotFoundError as error:
        raise RunNotFoundError(f"{storage.url} has no run {run!r} of {recipe!r}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunNotFoundError(f"{storage.url}/{path}: not a run record ({error!r})") from error


def list_run_ids(storage: Storage, recipe: str) -> list[str]:
    """Return the ids of a recipe's runs, oldest first."""
    prefix = f"{RUNS}/{recipe}"
    names = [name.removeprefix(f"{prefix}/") for name in storage.list_files(prefix)]
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]


def list_recipes(storage: Storage) -> list[str]:
    """Return the names of all recipes that have a run in this store, sorted."""
    return sorted({name.split("/")[1] for name in storage.list_files(RUNS) if name.count("/") == 2})


def latest_run(storage: Storage, recipe: str | None = None) -> RunRecord:
    """Load the newest run of a recipe, or of all recipes.

    Raises:
        RunNotFoundError: if there is none; lists the recipes that have one.
    """
    known = list_recipes(storage)
    names = known if recipe is None else [recipe]
    newest = max(
        ((run, name) for name in names for run in list_run_ids(storage, name)), default=None
    )
    if newest is None:
        missing = "no run yet" if recipe is None else f"no run of {recipe!r}"
        hint = f"; there are runs of {', '.join(known)}" if known else "; start one: gristmill run"
        raise RunNotFoundError(f"{storage.url} has {missing}{hint}")
    return load_run(storage, newest[1], newest[0])


def find_same_run(storage: Storage, recipe: str, folders: Sequence[str | None]) -> RunRecord | None:
    """Return the newest run if it completed with exactly these data sets and its report exists."""
    try:
        record = latest_run(storage, recipe)
    except RunNotFoundError:
        return None
    same = record.state == COMPLETED and [stage.path for stage in record.stages] == list(folders)
    has_report = record.report is not None and storage.exists(record.report)
    return record if same and has_report else None


def latest_run_for(storage: Storage, recipe: str, reason: str) -> RunRecord:
    """Load the newest run of a recipe that was started for a reason.

    Raises:
        RunNotFoundError: if there is none.
    """
    for record in iter_newest_first(storage, recipe):
        if record.reason == reason:
            return record
    raise RunNotFoundError(f"{storage.url} has no run of {recipe!r} with the reason {reason!r}")


def latest_results(storage: Storage, recipe: str) -> RunRecord:
    """Load the newest run of a recipe, with the results of earlier runs that are still valid.

    Raises:
        RunNotFoundError: if there is none; lists the recipes that have one.
    """
    return with_earlier_results(storage, latest_run(storage, recipe))


def with_earlier_results(storage: Storage, record: RunRecord) -> RunRecord:
    """Add what earlier runs made from the data sets of this one.

    A run that stopped after a stage has no results of later stages, but those that an earlier run
    made from exactly its data sets are still valid. Data sets made from others are left out.
    """
    stages, models = list(record.stages), list(record.models)
    finetuned = list(record.finetuned)
    existing = {(stage.stage, stage.source, stage.entry) for stage in stages}
    known = {stage.fingerprint for stage in stages}
    for older in islice(iter_newest_first(storage, record.recipe), MAX_RUNS_BACK):
        for stage in older.stages:
            key = (stage.stage, stage.source, stage.entry)
            if key in existing or not storage.exists(f"{stage.path}/{MANIFEST}"):
                continue
            inputs = {item["fingerprint"] for item in stage.open(storage).manifest.inputs}
            if inputs and inputs <= known:
                stages.append(stage)
                existing.add(key)
                known.add(stage.fingerprint)
        names = {model.name for model in models}
        entries = {entry for _, _, entry in existing}
        models += [m for m in older.models if m.name not in names and m.name in entries]
        names = {model.name for model in finetuned}
        finetuned += [m for m in older.finetuned if m.name not in names and m.name in entries]
    return replace(record, stages=stages, models=models, finetuned=finetuned)


def find_built_seconds(storage: Storage, recipe: str, fingerprint: str) -> float | None:
    """Return how long building a data set took; the records of ``recipe`` are read first."""
    others = [name for name in list_recipes(storage) if name != recipe]
    for name in [recipe, *others]:
        for record in islice(iter_newest_first(storage, name), MAX_RUNS_BACK):
            for stage in record.stages:
                if stage.fingerprint == fingerprint and stage.built_seconds is not None:
                    return stage.built_seconds
    return None


def iter_newest_first(storage: Storage, recipe: str) -> Iterator[RunRecord]:
    """Load the runs of a recipe one by one, the newest first; damaged records are skipped."""
    for run in reversed(list_run_ids(storage, recipe)):
        try:
            yield load_run(storage, recipe, run)
        except RunNotFoundError:
            continue
