"""Build a data set: map units of work over the cluster, cache each, commit once.

A unit is done when its entry is in the unit cache (``infra.dataset.unit_cache``). So a run that
crashed and a run after a small change both reuse what exists, part by part.
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
from infra.compute.lease import RunLease
from infra.compute.progress import Progress, Reporter, WrittenParts
from infra.dataset.code_version import code_digest, code_provenance
from infra.dataset.dataset import Dataset, PartRef, open_dataset, part_refs
from infra.dataset.failure_limit import FailureLimit, check_failures
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.manifest import (
    LOGS,
    MANIFEST,
    TABLE_SUFFIX,
    VERDICTS_SUFFIX,
    Counts,
    FileRecord,
    IntegrityError,
    Manifest,
    PartRecord,
    dataset_path,
)
from infra.dataset.tables import table_bytes
from infra.dataset.unit_cache import (
    UNIT_CACHE_FOLDER,
    UnitOutput,
    find_finished_units,
    make_entry_key,
    write_entry,
)
from infra.store.storage import Storage

FSYNC_THREADS = 4  # files that are flushed at a time


@dataclass(frozen=True)
class Stage:
    """A kind of work.

    Attributes:
        name: as in paths, manifests and the ledger.
        modules: dotted names of the modules and packages whose code decides the output's bytes.
        libraries: distributions whose version decides them.
        deterministic: False if one fingerprint may stand for different bytes, as for a crawl. The
            files then carry their digest in their name, so that two racing runs cannot mix.
        keyed_by_code: False for an acquisition: code and libraries are recorded as provenance, but
            name nothing, so that no change of them fetches or reads a source again.
        failure_limit: with more failed documents the stage fails: a bug or a wrong setting must not
            empty a data set quietly. ``None`` for an acquisition: all that it reads may be broken.
    """

    name: str
    modules: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    deterministic: bool = True
    keyed_by_code: bool = True
    failure_limit: FailureLimit | None = None

    @cached_property
    def code_version(self) -> str | None:
        """The stage's code version; ``None`` if its data sets are named without it."""
        return code_digest(self.modules, self.libraries) if self.keyed_by_code else None

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Digest of the code and versions of libraries, for the manifest."""
        return code_provenance(self.modules, self.libraries)


@dataclass(frozen=True)
class PartResult:
    """The output of a stage for one table of documents.

    Attributes:
        rows: the rows that are kept: documents, or columns aligned with them.
        verdicts: ledger rows, one per input document, in their order.
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
        expected_rows: number of input documents, where known in advance.
    """

    key: str
    payload: tuple[Any, ...]
    expected_rows: int | None = None


@dataclass(frozen=True)
class DatasetSpec:
    """What a data set is made from; its fingerprint names it before it exists.

    Attributes:
        inputs: data sets it is made from.
        external_inputs: digests of what it is made from besides, such as a user's files, and marks that
            name the data set but none of its units of work.
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
            self.stage.provenance,
        )


@dataclass(frozen=True)
class Context:
    """The environment that a run gives to its stages.

    Attributes:
        storage: the root of the store.
        seed: the recipe's seed.
        cluster: where units run.
        reporter: receives progress.
        recipe_name: the recipe's name.
        run_id: this run's id.
        started_at: when the run started (UTC); it dates the snapshot of a source that is crawled again.
        lease: keeps ``gristmill gc`` from deleting what the run uses; ``None`` for a plan.
    """

    storage: Storage
    seed: int
    cluster: DaskCluster
    reporter: Reporter
    recipe_name: str = ""
    run_id: str = ""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    lease: RunLease | None = None

    def hold(self, *folders: str) -> None:
        """Keep data sets from being deleted until the run ends; call it before looking at them."""
        if self.lease is not None:
            self.lease.hold(folders)


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
        existing_files: further ones that workers have already written to its folder.
        stats: called with all parts before the commit; its result goes into the manifest.

    Raises:
        IntegrityError: if counts do not add up, or the data set exists with different bytes.
    """
    ctx.hold(spec.folder)
    folder = ctx.storage.subdir(*spec.folder.split("/"))
    if folder.exists(MANIFEST):
        return open_dataset(folder)  # a committed data set is never written to again
    stage = spec.stage
    cache = ctx.storage.subdir(UNIT_CACHE_FOLDER, stage.name)
    outputs = []
    for number, unit in enumerate(units):
        entry_key = make_entry_key(stage.name, stage.code_version, spec.config, unit.key)
        outputs.append(UnitOutput(folder, stage.name, stage.deterministic, number, entry_key))
    finished = find_finished_units(ctx.storage, ctx.cluster, outputs, ctx.hold)

    written = WrittenParts()

    def report() -> None:
        done, total = len(finished), len(units)
        ctx.reporter.update(Progress(stage.name, spec.source, done, total, written=written))

    report()
    todo = [number for number in range(len(units)) if number not in finished]
    # On one machine files are flushed from here while the workers continue. An entry may then outlive
    # its part in a power cut: as long as nothing is committed, reuse checks the part's bytes.
    durable = bool(todo) and not ctx.cluster.is_local
    payloads = [(function, units[number], outputs[number], cache, durable) for number in todo]
    with ThreadPoolExecutor(FSYNC_THREADS) as flushers:
        flushed: list[Future[None]] = []
        for position, parts in ctx.cluster.map(_run_unit, payloads):
            records = finished[todo[position]] = [PartRecord.from_json(part) for part in parts]
            if not durable:
                names = [file.name for part in records for file in part.files.values()]
                flushed += [flushers.submit(folder.fsync, name) for name in names]
            written = _add_parts(written, records)
            report()
        for file in flushed:
            file.result()
    if durable:
        _check_written(folder, [part for number in todo for part in finished[number]])
    records = [part for number in range(len(units)) for part in finished[number]]
    refs = part_refs(folder, stage.name, spec.source, records)
    check_failures(f"{stage.name} {spec.source or ''}".strip(), stage.failure_limit, refs)
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
    ctx.hold(spec.folder)
    folder = ctx.storage.subdir(*spec.folder.split("/"))
    if folder.exists(MANIFEST):
        return open_dataset(folder)  # a committed data set is never written to again
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
    """Write the manifest, or return the equal one that another writer committed first."""
    if folder.put_if_absent(MANIFEST, manifest.to_bytes()):
        return Dataset(folder, manifest)
    theirs = open_dataset(folder)
    ours = {(where, file.name): file.sha256 for where, file in manifest.located_files("")}
    if any(
        ours.get((where, file.name), file.sha256) != file.sha256
        for where, file in theirs.manifest.located_files("")
    ):
        raise IntegrityError(
            f"{folder.url}: made twice from the same input, with different bytes; "
            f"remove the folder and run again, and report what made it differ"
        )
    return theirs


def _run_unit(
    function: Callable[..., Iterable[PartResult]],
    unit: WorkUnit,
    output: UnitOutput,
    cache: Storage,
    durable: bool,  # noqa: FBT001 - a task's arguments are positional
) -> list[dict[str, Any]]:
    """Run one unit on a worker: write its parts, then its cache entry; wait for the disk if durable."""
    parts = [
        _write_part(output, output.part_name(chunk), outcome, durable=durable)
        for chunk, outcome in enumerate(function(*unit.payload))
    ]
    where = f"{output.stage} part {output.part_index:05d}"
    if not parts:
        raise IntegrityError(f"{where}: the stage returned nothing for it")
    n_in = sum(part.counts.n_in for part in parts)
    if unit.expected_rows not in (None, n_in):
        raise IntegrityError(
            f"{where}: {unit.expected_rows} documents went in, but there are verdicts on {n_in}"
        )
    records = [part.to_json() for part in parts]
    write_entry(cache, output, records, durable=durable)
    return records


def _add_parts(written: WrittenParts, parts: Sequence[PartRecord]) -> WrittenParts:
    before = Counts(kept=written.kept, dropped=written.dropped, failed=written.failed)
    counts = sum((part.counts for part in parts), before)
    return WrittenParts(
        counts.kept,
        counts.dropped,
        counts.failed,
        written.text_bytes + sum(part.text_bytes for part in parts),
        written.file_bytes + sum(file.bytes for part in parts for file in part.files.values()),
    )


def _check_written(folder: Storage, parts: Sequence[PartRecord]) -> None:
    """Raise ``IntegrityError`` unless the files that workers of other machines wrote are here."""
    sizes = folder.file_sizes()
    for file in (file for part in parts for file in part.files.values()):
        if sizes.get(file.name) != file.bytes:
            raise IntegrityError(
                f"{folder.url}/{file.name}: a Dask worker has written it, but it is not here; the "
                "storage must be an object store or a file system that all machines share"
            )


def _write_part(output: UnitOutput, name: str, result: PartResult, *, durable: bool) -> PartRecord:
    counts = Counts.from_ledger(result.verdicts)
    counts.check(f"{output.stage} part {name}")
    if counts.kept != result.rows.num_rows:
        raise IntegrityError(
            f"{output.stage} part {name}: {counts.kept} documents were kept, "
            f"but there are {result.rows.num_rows} rows"
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
    has_text = "text" in table.column_names
    return int(pc.sum(pc.binary_length(table["text"])).as_py() or 0) if has_text else 0
