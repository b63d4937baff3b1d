"""Re-counting and re-hashing everything a run stands on."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.dataset.dataset import (
    MANIFEST,
    TABLE_SUFFIX,
    VERDICTS_SUFFIX,
    Counts,
    DatasetNotFoundError,
    FileRecord,
    IntegrityError,
    Manifest,
    PartRecord,
    dataset_path,
    open_dataset,
)
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.ledger import DROPPED, FAILED, KEPT
from infra.runs.run_records import RunRecord, StageRecord
from infra.store.storage import Storage

ERROR, WARNING = "error", "warning"
THREADS = 8  # hashing and reading release the interpreter's lock
CHUNK_BYTES = 1 << 20  # bytes hashed at a time

# What a stage takes in is exactly what the inputs of these stages kept. Dedup and select also read
# other inputs, which say nothing about how many documents come in.
INPUT_STAGES = {
    "extract": ("acquire",),
    "annotate": ("acquire", "extract"),
    "dedup": ("acquire", "extract"),
    "select": ("annotate",),
    "tokenize": ("select",),
}

# Stages whose data sets a record names; the others are made by these for themselves.
RECORDED_STAGES = frozenset({"acquire", *INPUT_STAGES, "train", "release", "evaluate"})


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was committed.

    Attributes:
        severity: ``error`` (a promise is broken) or ``note`` (worth knowing, nothing is wrong).
        file: its path relative to the storage root.
        message: what is wrong, with both figures where two disagree.
    """

    severity: str
    file: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass
class VerifyResult:
    """What a check looked at and what it found.

    Attributes:
        datasets: data sets whose manifest could be read.
        files: files hashed.
        bytes: their length.
        findings: errors first, then notes.
    """

    datasets: int = 0
    files: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every promise is kept; notes do not count."""
        return all(problem.severity != ERROR for problem in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"ok": self.ok, **asdict(self)}


def find_errors(storage: Storage, record: RunRecord) -> list[Finding]:
    """What is broken in the data sets of a run and in those they were made from; see ``verify_run``."""
    return [
        problem for problem in verify_run(storage, record).findings if problem.severity == ERROR
    ]


def verify_run(storage: Storage, record: RunRecord) -> VerifyResult:
    """Re-count and re-hash every data set of a run and every data set these were made from.

    Data sets that stages made for themselves on the way (signatures, a tokenizer, baselines) are
    among them: those in the store that were made from data sets of the run.

    Per data set: the manifest is readable, unchanged since the run and consistent with its own
    fingerprint and content; every file is there with its length and SHA-256; a part's counts are
    those of its ledger, its kept documents those of its table, the data set's counts the sum of
    its parts'. Between data sets: inputs hold what was recorded of them, and per-document stages
    took in exactly what their inputs kept.
    """
    result = VerifyResult()
    expected = {stage.path: stage for stage in record.stages}
    manifests: dict[str, Manifest | None] = {}

    def visit(paths: Sequence[str]) -> None:
        queue = list(paths)
        while queue:
            path = queue.pop(0)
            if path in manifests:
                continue
            manifest, problems = _read_manifest(storage, path, expected.get(path))
            manifests[path] = manifest
            result.findings += problems
            if manifest is not None:
                result.datasets += 1
                queue += [_dataset_path(item) for item in manifest.inputs]

    visit(list(expected))
    visit(_unrecorded_datasets(storage, manifests))
    there = {path: manifest for path, manifest in manifests.items() if manifest is not None}
    for path, manifest in there.items():
        result.findings += _check_consistency(path, manifest)
        result.findings += _check_inputs(path, manifest, manifests)
        result.findings += _unlisted_files(storage, path, manifest)
    with ThreadPoolExecutor(THREADS) as pool:
        files = list(
            dict.fromkeys(f for path, item in there.items() for f in item.located_files(path))
        )
        for problem in pool.map(lambda item: _check_file(storage, *item), files):
            result.findings += problem
        result.files, result.bytes = len(files), sum(file.bytes for _, file in files)
        damaged = {problem.file for problem in result.findings}
        parts = [
            (path, part)
            for path, item in there.items()
            for part in item.parts
            if not damaged & {f"{part.folder or path}/{file.name}" for file in part.files.values()}
        ]
        for problem in pool.map(lambda item: _check_part(storage, *item), parts):
            result.findings += problem
    result.findings.sort(key=lambda item: (item.severity != ERROR, item.file, item.message))
    return result


def list_referenced_files(storage: Storage, stage: str) -> set[str]:
    """The files, as paths below the storage root, that committed data sets of a stage list."""
    referenced: set[str] = set()
    for name in storage.list_folders(stage):
        path = f"{stage}/{name}"
        try:
            manifest = open_dataset(storage.subdir(stage, name)).manifest
        except (DatasetNotFoundError, IntegrityError):
            continue
        referenced |= {f"{where}/{file.name}" for where, file in manifest.located_files(path)}
    return referenced


def _unrecorded_datasets(storage: Storage, manifests: Mapping[str, Manifest | None]) -> list[str]:
    """Data sets that no record names, because stages made them for themselves, but that are the run's.

    Each was made from data sets that are the run's; one that was made from no data set at all, such
    as a tokenizer that was given, shares a file with one that is. A manifest that cannot be read may
    be the run's, so it is looked at.
    """
    known = {path: manifest for path, manifest in manifests.items() if manifest is not None}
    found: list[str] = []
    waiting: dict[str, Manifest] = {}
    for stage in storage.list_folders():
        for folder in () if stage in RECORDED_STAGES else storage.list_folders(stage):
            path = f"{stage}/{folder}"
            try:
                data = storage.read(f"{path}/{MANIFEST}")
                waiting[path] = Manifest.from_bytes(data, path)
            except FileNotFoundError:
                continue  # never committed, or no data set
            except IntegrityError:
                found.append(path)
    while True:
        content = {manifest.content for manifest in known.values()}
        files = {file.sha256 for manifest in known.values() for file in manifest.all_files}
        ours = [
            path
            for path, manifest in waiting.items()
            if path not in known
            # By either name, so that damage to one of them hides nothing.
            and all(
                _dataset_path(i) in known or i.get("content") in content for i in manifest.inputs
            )
            and (manifest.inputs or files & {file.sha256 for file in manifest.all_files})
        ]
        if not ours:
            return found
        found += ours
        known |= {path: waiting[path] for path in ours}


def _dataset_path(item: Mapping[str, Any]) -> str:
    # A damaged manifest may lack any of these: the folder it then names is not there either.
    return dataset_path(str(item.get("stage")), item.get("source"), str(item.get("fingerprint")))


def _read_manifest(
    storage: Storage, path: str, recorded: StageRecord | None
) -> tuple[Manifest | None, list[Finding]]:
    """A data set's manifest, and what is wrong with it at first sight."""
    name = f"{path}/{MANIFEST}"
    try:
        data = storage.read(name)
    except FileNotFoundError:
        what = "missing: the run names this data set, but it is not committed"
        return None, [Finding(ERROR, name, what)]
    found: list[Finding] = []
    if recorded is not None and bytes_sha256(data) != recorded.manifest_sha256:
        found.append(Finding(ERROR, name, "is not the manifest that the run recorded (SHA-256)"))
    try:
        manifest = Manifest.from_bytes(data, name)
        value = json.loads(data)
    except IntegrityError as error:
        return None, [*found, Finding(ERROR, name, str(error).removeprefix(f"{name}: "))]
    for key, is_, should in (
        ("content", value.get("content"), manifest.content),
        ("bytes", value.get("bytes"), sum(file.bytes for file in manifest.all_files)),
    ):
        if is_ != should:
            found.append(Finding(ERROR, name, f"says {key} {is_}, its files give {should}"))
    if recorded is not None:
        found += _check_against_record(name, manifest, recorded)
    return manifest, found


def _check_against_record(
    name: str, manifest: Manifest, recorded: StageRecord
) -> Iterator[Finding]:
    if manifest.fingerprint != recorded.fingerprint:
        what = f"fingerprint {manifest.fingerprint}, the run recorded {recorded.fingerprint}"
        yield Finding(ERROR, name, what)
    if manifest.counts.to_json() != recorded.counts.to_json():
        what = f"counts {_format_counts(manifest.counts)}, the run recorded {_format_counts(recorded.counts)}"
        yield Finding(ERROR, name, what)


def _check_consistency(path: str, manifest: Manifest) -> Iterator[Finding]:
    """A manifest against itself: fingerprint, folder, sums."""
    name = f"{path}/{MANIFEST}"
    fingerprint = json_sha256(
        {
            "stage": manifest.stage,
            "source": manifest.source,
            "code": manifest.code_version,
            "config": manifest.config,
            "inputs": [
                *(item.get("content") for item in manifest.inputs),
                *manifest.external_inputs,
            ],
        }
    )
    if fingerprint != manifest.fingerprint:
        what = f"says fingerprint {manifest.fingerprint}, what it was made from gives {fingerprint}"
        yield Finding(ERROR, name, what)
    own = {"stage": manifest.stage, "source": manifest.source, "fingerprint": manifest.fingerprint}
    if _dataset_path(own) != path:
        yield Finding(ERROR, name, f"belongs into {_dataset_path(own)}")
    for where, counts in (
        ("the data set", manifest.counts),
        *((f"part {part.name}", part.counts) for part in manifest.parts),
    ):
        try:
            counts.check(where)
        except IntegrityError as error:
            yield Finding(ERROR, name, str(error))
    total = sum((part.counts for part in manifest.parts), Counts())
    if manifest.parts and total.to_json() != manifest.counts.to_json():
        what = f"counts {_format_counts(manifest.counts)}, its parts sum to {_format_counts(total)}"
        yield Finding(ERROR, name, what)


def _check_inputs(
    path: str, manifest: Manifest, manifests: Mapping[str, Manifest | None]
) -> Iterator[Finding]:
    """A manifest against those of its inputs."""
    name = f"{path}/{MANIFEST}"
    feeds = INPUT_STAGES.get(manifest.stage, ())
    kept: list[int] = []
    for item in manifest.inputs:
        other = manifests[_dataset_path(item)]
        if other is None:
            return  # said already
        if other.content != item.get("content"):
            what = f"was made from content {item.get('content')}, which now is {other.content}"
            yield Finding(ERROR, f"{_dataset_path(item)}/{MANIFEST}", f"{path} {what}")
        if other.stage in feeds:
            kept.append(other.counts.kept)
    if kept and sum(kept) != manifest.counts.n_in:
        fed = " and ".join(feeds)
        what = f"{manifest.counts.n_in} documents went in, but {fed} kept {sum(kept)}"
        yield Finding(ERROR, name, what)


def _unlisted_files(storage: Storage, path: str, manifest: Manifest) -> Iterator[Finding]:
    """Files that no manifest lists: left by a run that was cut off, or by a race."""
    known = {f"{where}/{file.name}" for where, file in manifest.located_files(path)}
    names = storage.subdir(*path.split("/")).list_files()
    unknown = [f"{path}/{name}" for name in names if name != MANIFEST]
    unknown = [file for file in unknown if file not in known]
    if unknown:
        known |= list_referenced_files(storage, manifest.stage)
    for file in unknown:
        if file not in known:
            yield Finding(WARNING, file, "is not part of a data set")


def _check_file(storage: Storage, path: str, file: FileRecord) -> list[Finding]:
    """A file against its length and digest."""
    name = f"{path}/{file.name}"
    hasher, length = hashlib.sha256(), 0
    try:
        with storage.open(name) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                hasher.update(chunk)
                length += len(chunk)
    except FileNotFoundError:
        return [Finding(ERROR, name, "missing")]
    if length != file.bytes:
        return [Finding(ERROR, name, f"{length} bytes, {file.bytes} were committed")]
    if hasher.hexdigest() != file.sha256:
        what = f"SHA-256 {hasher.hexdigest()}, {file.sha256} was committed"
        return [Finding(ERROR, name, what)]
    return []


def _check_part(storage: Storage, path: str, part: PartRecord) -> list[Finding]:
    """A part's counts against its ledger and its table; its files are known to be whole."""
    found = []
    folder = part.folder or path
    ledger, table = part.files.get(VERDICTS_SUFFIX), part.files.get(TABLE_SUFFIX)
    if ledger is not None:
        with storage.open(f"{folder}/{ledger.name}") as stream:
            counts = counts_from_ledger(pq.read_table(stream, columns=["verdict", "reason"]))
        if counts.to_json() != part.counts.to_json():
            what = f"the ledger says {_format_counts(counts)}, the manifest {_format_counts(part.counts)}"
            found.append(Finding(ERROR, f"{folder}/{ledger.name}", what))
    if table is not None:
        with storage.open(f"{folder}/{table.name}") as stream:
            rows = pq.ParquetFile(stream).metadata.num_rows
        if not rows == part.num_rows == part.counts.kept:
            what = (
                f"{rows} rows, the manifest says {part.num_rows} rows and {part.counts.kept} kept"
            )
            found.append(Finding(ERROR, f"{folder}/{table.name}", what))
    return found


def counts_from_ledger(ledger: pa.Table) -> Counts:
    """``Counts.of`` without a Python object per document."""
    groups = ledger.group_by(["verdict", "reason"]).aggregate([([], "count_all")]).to_pylist()
    by: dict[str, dict[str, int]] = {KEPT: {}, DROPPED: {}, FAILED: {}}
    for row in groups:
        tallied = by.setdefault(row["verdict"], {})
        tallied[str(row["reason"])] = row["count_all"]
    return Counts(ledger.num_rows, sum(by[KEPT].values()), dict(by[DROPPED]), dict(by[FAILED]))


def _format_counts(counts: Counts) -> str:
    def listed(reasons: Mapping[str, int]) -> str:
        named = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        return f"{sum(reasons.values())}" + (f" ({named})" if named else "")

    dropped, failed = listed(counts.dropped), listed(counts.failed)
    return f"in {counts.n_in} = kept {counts.kept} + dropped {dropped} + failed {failed}"
