"""How a stage becomes a data set: units of work mapped over the cluster, receipts, one commit.

A unit is done when its receipt (``receipts``) is in the store, so a run that was cut off and a run
after a small change both find what is already there, part by part.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.cluster import DaskCluster
from infra.compute.progress import Progress, Reporter
from infra.dataset.code_version import code_digest
from infra.dataset.dataset import (
    LOGS,
    MANIFEST,
    TABLE_SUFFIX,
    VERDICTS_SUFFIX,
    Counts,
    Dataset,
    FileRecord,
    IntegrityError,
    Manifest,
    PartRecord,
    PartRef,
    dataset_path,
    open_dataset,
)
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.tables import table_bytes
from infra.dataset.unit_cache import (
    UNIT_CACHE_FOLDER,
    UnitOutput,
    make_entry_key,
    restore_parts,
    write_entry,
)
from infra.store.storage import Storage

FSYNC_THREADS = 4  # files that are flushed at once


@dataclass(frozen=True)
class Stage:
    """A kind of work.

    Attributes:
        name: as in paths, manifests and the ledger.
        modules: dotted names of the modules and packages whose code decides the output's bytes.
        libraries: distributions whose version decides them.
        deterministic: False for a stage whose input is the outside world, such as a crawl: its
            files then carry their digest in their name, so that two racing runs cannot mix.
    """

    name: str
    modules: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    deterministic: bool = True

    @cached_property
    def code_version(self) -> str:
        """The stage's code version."""
        return code_digest(self.modules, self.libraries)


@dataclass(frozen=True)
class PartResult:
    """What a stage made of one table of documents.

    Attributes:
        rows: the rows that go on: documents, or columns aligned with them.
        verdicts: ledger rows, one per document that came in, in their order.
        files: further files of the part by suffix.
    """

    rows: pa.Table
    verdicts: pa.Table
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkUnit:
    """A piece of a stage's work.

    Attributes:
        key: digest of what its output depends on besides the stage's code and configuration.
        payload: arguments of the stage's function; picklable.
        expected_rows: documents that must come in, where known beforehand.
    """

    key: str
    payload: tuple[Any, ...]
    expected_rows: int | None = None


@dataclass(frozen=True)
class DatasetSpec:
    """What a data set would be made from; its fingerprint names it before it exists.

    Attributes:
        inputs: data sets it is made from.
        external_inputs: digests of what it is made from besides, such as a user's files.
    """

    stage: Stage
    source: str | None
    config: Mapping[str, Any]
    inputs: tuple[Dataset, ...] = ()
    external_inputs: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Digest of stage, source, code, configuration and the content of all inputs."""
        return json_sha256(
            {
                "stage": self.stage.name,
                "source": self.source,
                "code": self.stage.code_version,
                "config": self.config,
                "inputs": [*(item.content for item in self.inputs), *self.external_inputs],
            }
        )

    @property
    def folder(self) -> str:
        """The data set's folder below the storage root."""
        return dataset_path(self.stage.name, self.source, self.fingerprint)

    def manifest(
        self,
        parts: Sequence[PartRecord],
        files: Mapping[str, FileRecord],
        stats: Mapping[str, Any],
        counts: Counts | None = None,
    ) -> Manifest:
        """The manifest of the finished data set, its counts summed and checked."""
        total = counts or sum((part.counts for part in parts), Counts())
        total.check(self.folder)
        return Manifest(
            self.stage.name,
            self.source,
            self.fingerprint,
            self.stage.code_version,
            self.config,
            [
                {
                    "stage": item.stage,
                    "source": item.source,
                    "fingerprint": item.fingerprint,
                    "content": item.content,
                }
                for item in self.inputs
            ],
            total,
            parts,
            files,
            stats,
            self.external_inputs,
        )


@dataclass(frozen=True)
class Context:
    """What a run gives to its stages.

    Attributes:
        storage: the root of the store.
        seed: the recipe's seed.
        cluster: where units run.
        reporter: who listens.
        recipe_name: the recipe's name.
        run_id: this run's id.
        started_at: when the run began (UTC); only a source that is to be fetched anew looks at it.
    """

    storage: Storage
    seed: int
    cluster: DaskCluster
    reporter: Reporter
    recipe_name: str = ""
    run_id: str = ""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def build_dataset(
    ctx: Context,
    spec: DatasetSpec,
    units: Sequence[WorkUnit],
    function: Callable[..., Iterable[PartResult]],
    *,
    files: Mapping[str, bytes] | None = None,
    existing_files: Mapping[str, FileRecord] | None = None,
    stats: Callable[[list[PartRef]], Mapping[str, Any]] | None = None,
) -> Dataset:
    """Make the parts of a data set and commit it.

    Args:
        ctx: the run.
        spec: what the data set is made from.
        units: pieces of work, in the order of their parts.
        function: module-level; called as ``function(*unit.payload)`` on a worker; yields one
            ``PartResult`` per part, at least one.
        files: files of the data set as a whole.
        existing_files: further ones that workers have put into its folder already.
        stats: called with all parts before the commit; its result goes into the manifest.

    Raises:
        IntegrityError: if counts do not add up, or an equal data set with other bytes is there.
    """
    folder = ctx.storage.subdir(*spec.folder.split("/"))
    if folder.exists(MANIFEST):
        return open_dataset(folder)  # what is committed is never written to again
    receipts = ctx.storage.subdir(UNIT_CACHE_FOLDER, spec.stage.name)
    stage = spec.stage
    targets = []
    for number, unit in enumerate(units):
        receipt = make_entry_key(stage.name, stage.code_version, spec.config, unit.key)
        targets.append(UnitOutput(folder, stage.name, stage.deterministic, number, receipt))
    made: dict[int, list[PartRecord]] = {}

    def report() -> None:
        ctx.reporter.update(Progress(spec.stage.name, spec.source, len(made), len(units)))

    with ThreadPoolExecutor(FSYNC_THREADS) as flushers:
        flushed: list[Future[None]] = []

        def flush(parts: Sequence[PartRecord]) -> None:
            names = [file.name for part in parts for file in part.files.values()]
            flushed.extend(flushers.submit(folder.fsync, name) for name in names)

        todo = []
        for number, target in enumerate(targets):
            found = restore_parts(ctx.storage, receipts, target)
            if found is None:
                todo.append(number)
            else:
                made[number] = found
                flush(found)  # the run that wrote it may have been killed before it did
        report()
        # On one machine files are flushed from here while the workers go on. A receipt may then
        # outlive its part in a power cut: whoever finds a receipt checks the part's bytes.
        durable = bool(todo) and not ctx.cluster.is_local
        payloads = [
            (
                function,
                units[index].payload,
                units[index].expected_rows,
                targets[index],
                receipts,
                durable,
            )
            for index in todo
        ]
        for index, parts in ctx.cluster.map(_run_unit, payloads):
            made[todo[index]] = [PartRecord.from_json(part) for part in parts]
            if not durable:
                flush(made[todo[index]])
            report()
        for file in flushed:
            file.result()
    records = [part for number in range(len(units)) for part in made[number]]
    refs = [PartRef(folder, spec.stage.name, spec.source, record) for record in records]
    extra = dict(existing_files or {})
    for name, data in sorted((files or {}).items()):
        folder.write(name, data)
        extra[name] = FileRecord(name, len(data), bytes_sha256(data))
    return commit(folder, spec.manifest(records, extra, stats(refs) if stats else {}))


def commit_files(
    ctx: Context,
    spec: DatasetSpec,
    files: Mapping[str, Path],
    *,
    counts: Counts,
    stats: Mapping[str, Any],
) -> Dataset:
    """Commit a data set that has no parts, such as a model: its files, then its manifest.

    Names below ``logs/`` are logs: checksummed, but no part of the data set's content.
    """
    folder = ctx.storage.subdir(*spec.folder.split("/"))
    if folder.exists(MANIFEST):
        return open_dataset(folder)  # what is committed is never written to again
    records = {}
    for name, path in sorted(files.items()):
        with path.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        # Two writers of a stage whose bytes may differ never write to one name.
        varies = name.startswith(LOGS) or not spec.stage.deterministic
        put = f"{sha[:12]}/{name}" if varies else name
        folder.upload(path, put)
        records[name] = FileRecord(put, path.stat().st_size, sha)
    return commit(folder, spec.manifest([], records, stats, counts))


def commit(folder: Storage, manifest: Manifest) -> Dataset:
    """Put the manifest in place, or take the equal one that another writer put there first."""
    if folder.put_if_absent(MANIFEST, manifest.to_bytes()):
        return Dataset(folder, manifest)
    theirs = open_dataset(folder)
    ours = {file.name: file.sha256 for file in manifest.all_files}
    if any(ours.get(file.name, file.sha256) != file.sha256 for file in theirs.manifest.all_files):
        raise IntegrityError(
            f"{folder.url}: made twice from the same input, with different bytes; "
            f"remove the folder and run again, and report what made it differ"
        )
    return theirs


def _run_unit(
    function: Callable[..., Iterable[PartResult]],
    payload: tuple[Any, ...],
    expected_rows: int | None,
    output: UnitOutput,
    cache: Storage,
    durable: bool,  # noqa: FBT001 - a task's arguments go by place
) -> list[dict[str, Any]]:
    """Run one unit on a worker: write its parts, then its receipt; wait for the disk if durable."""
    parts = [
        _write_part(output, output.part_name(chunk), outcome, durable=durable)
        for chunk, outcome in enumerate(function(*payload))
    ]
    where = f"{output.stage} part {output.part_index:05d}"
    if not parts:
        raise IntegrityError(f"{where}: the stage returned nothing for it")
    came_in = sum(part.counts.n_in for part in parts)
    if expected_rows is not None and came_in != expected_rows:
        raise IntegrityError(
            f"{where}: {expected_rows} documents went in, verdicts speak of {came_in}"
        )
    records = [part.to_json() for part in parts]
    write_entry(cache, output, records, durable=durable)
    return records


def _write_part(output: UnitOutput, name: str, result: PartResult, *, durable: bool) -> PartRecord:
    counts = Counts.from_ledger(result.verdicts)
    counts.check(f"{output.stage} part {name}")
    if counts.kept != result.rows.num_rows:
        raise IntegrityError(
            f"{output.stage} part {name}: {counts.kept} verdicts say kept, "
            f"but {result.rows.num_rows} rows go on"
        )
    written = {
        TABLE_SUFFIX: table_bytes(result.rows),
        VERDICTS_SUFFIX: table_bytes(result.verdicts),
        **result.files,
    }
    records = {}
    for suffix, data in written.items():
        sha = bytes_sha256(data)
        stem = f"part-{name}" if output.deterministic else f"part-{name}.{sha[:12]}"
        output.storage.write(f"{stem}.{suffix}", data, durable=durable)
        records[suffix] = FileRecord(f"{stem}.{suffix}", len(data), sha)
    return PartRecord(name, result.rows.num_rows, _text_bytes(result.rows), counts, records)


def _text_bytes(table: pa.Table) -> int:
    if "text" not in table.column_names:
        return 0
    return int(pc.sum(pc.binary_length(table["text"])).as_py() or 0)
