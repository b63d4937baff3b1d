"""Re-count and re-hash every data set that a run consists of."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow.parquet as pq

from infra.dataset.dataset import try_open_dataset
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.manifest import (
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
from infra.dataset.step import Steps
from infra.runs.run_records import RunRecord, StageRecord
from infra.store.storage import Storage

ERROR, WARNING = "error", "warning"
THREADS = 8  # hashing and reading release the GIL
CHUNK_BYTES = 1 << 20  # hashed at a time


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was committed.

    Attributes:
        severity: ``error`` (a guarantee is broken) or ``warning`` (nothing is wrong).
        file: its path relative to the storage root.
    """

    severity: str
    file: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass
class VerifyResult:
    """How much was checked (data sets, files, their bytes), and what is wrong: errors first."""

    datasets: int = 0
    files: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return all(finding.severity != ERROR for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"ok": self.ok, **asdict(self)}


def verify_run(storage: Storage, record: RunRecord, steps: Steps) -> VerifyResult:
    """Re-count and re-hash every data set of a run and every data set these were made from.

    Data sets that stages made for their own use (signatures, a tokenizer, baselines) are included:
    those in the store that were made from data sets of the run.

    Per data set: the manifest is readable, unchanged since the run and consistent with its own
    fingerprint and content; every file exists with its length and SHA-256; a part's counts equal
    those of its ledger, its kept documents the rows of its table, the data set's counts the sum of
    its parts' counts. Between data sets: inputs hold what was recorded of them, and a step's count
    of incoming documents is what its inputs kept (``Step.counts_from``).
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
            manifest, findings = _read_manifest(storage, path, expected.get(path))
            manifests[path] = manifest
            result.findings += findings
            if manifest is not None:
                result.datasets += 1
                queue += [_dataset_path(item) for item in manifest.inputs]

    visit(list(expected))
    visit(_unrecorded_datasets(storage, manifests, steps))
    readable = {path: manifest for path, manifest in manifests.items() if manifest is not None}
    counts_from = {step.name: step.counts_from for step in steps}
    for path, manifest in readable.items():
        result.findings += _check_consistency(path, manifest)
        result.findings += _check_inputs(path, manifest, manifests, counts_from)
        result.findings += _unlisted_files(storage, path, manifest)
    with ThreadPoolExecutor(THREADS) as pool:
        located = (file for path, item in readable.items() for file in item.located_files(path))
        files = list(dict.fromkeys(located))
        for findings in pool.map(lambda item: _check_file(storage, *item), files):
            result.findings += findings
        result.files, result.bytes = len(files), sum(file.bytes for _, file in files)
        damaged = {finding.file for finding in result.findings}
        parts = [
            (path, part)
            for path, item in readable.items()
            for part in item.parts
            if not damaged & {f"{part.folder or path}/{file.name}" for file in part.files.values()}
        ]
        for findings in pool.map(lambda item: _check_part(storage, *item), parts):
            result.findings += findings
    result.findings.sort(key=lambda item: (item.severity != ERROR, item.file, item.message))
    return result


def list_referenced_files(storage: Storage, stage: str) -> set[str]:
    """Return the files, relative to the storage root, that committed data sets of a stage list."""
    referenced: set[str] = set()
    for folder in storage.list_folders(stage):
        path = f"{stage}/{folder}"
        data = try_open_dataset(storage, path)
        if data is not None:
            referenced |= {f"{where}/{f.name}" for where, f in data.manifest.located_files(path)}
    return referenced


def _unrecorded_datasets(
    storage: Storage, manifests: Mapping[str, Manifest | None], steps: Steps
) -> list[str]:
    """Return the data sets of the run that no record names: stages made them for their own use.

    Such a data set was made from data sets of the run. One without inputs, such as a tokenizer that
    the recipe provides, shares a file with a data set of the run. A data set whose manifest cannot
    be read may belong to the run, so it is included.
    """
    recorded = {step.name for step in steps}
    known = {path: manifest for path, manifest in manifests.items() if manifest is not None}
    result: list[str] = []
    candidates: dict[str, Manifest] = {}
    for stage in storage.list_folders():
        for folder in () if stage in recorded else storage.list_folders(stage):
            path = f"{stage}/{folder}"
            try:
                data = storage.read(f"{path}/{MANIFEST}")
                candidates[path] = Manifest.from_bytes(data, path)
            except FileNotFoundError:
                continue  # never committed, or not a data set
            except IntegrityError:
                result.append(path)
    while True:
        content = {manifest.content for manifest in known.values()}
        files = {file.sha256 for manifest in known.values() for file in manifest.all_files}
        added = [
            path
            for path, manifest in candidates.items()
            if path not in known
            # Either name counts, so that damage to one of them hides nothing.
            and all(
                _dataset_path(i) in known or i.get("content") in content for i in manifest.inputs
            )
            and (manifest.inputs or files & {file.sha256 for file in manifest.all_files})
        ]
        if not added:
            return result
        result += added
        known |= {path: candidates[path] for path in added}


def _dataset_path(item: Mapping[str, Any]) -> str:
    # A damaged manifest may lack any of these: the folder it then names does not exist either.
    return dataset_path(str(item.get("stage")), item.get("source"), str(item.get("fingerprint")))


def _read_manifest(
    storage: Storage, path: str, recorded: StageRecord | None
) -> tuple[Manifest | None, list[Finding]]:
    """Read a data set's manifest and check it on its own."""
    name = f"{path}/{MANIFEST}"
    try:
        data = storage.read(name)
    except FileNotFoundError:
        message = "missing: the run names this data set, but it is not committed"
        return None, [Finding(ERROR, name, message)]
    findings: list[Finding] = []
    if recorded is not None and bytes_sha256(data) != recorded.manifest_sha256:
        findings.append(Finding(ERROR, name, "is not the manifest that the run recorded (SHA-256)"))
    try:
        manifest = Manifest.from_bytes(data, name)
        value = json.loads(data)
    except IntegrityError as error:
        return None, [*findings, Finding(ERROR, name, str(error).removeprefix(f"{name}: "))]
    for key, actual in (
        ("content", manifest.content),
        ("bytes", sum(file.bytes for file in manifest.all_files)),
    ):
        if value.get(key) != actual:
            message = f"its {key} is {value.get(key)}, but its files give {actual}"
            findings.append(Finding(ERROR, name, message))
    if recorded is not None:
        findings += _check_against_record(name, manifest, recorded)
    return manifest, findings


def _check_against_record(
    name: str, manifest: Manifest, recorded: StageRecord
) -> Iterator[Finding]:
    if manifest.fingerprint != recorded.fingerprint:
        message = f"fingerprint {manifest.fingerprint}, the run recorded {recorded.fingerprint}"
        yield Finding(ERROR, name, message)
    if manifest.counts.to_json() != recorded.counts.to_json():
        own, expected = _format_counts(manifest.counts), _format_counts(recorded.counts)
        yield Finding(ERROR, name, f"counts {own}, the run recorded {expected}")


def _check_consistency(path: str, manifest: Manifest) -> Iterator[Finding]:
    """Check a manifest against itself: fingerprint, folder, sums."""
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
        message = f"its fingerprint is {manifest.fingerprint}, but its inputs give {fingerprint}"
        yield Finding(ERROR, name, message)
    own = {"stage": manifest.stage, "source": manifest.source, "fingerprint": manifest.fingerprint}
    if _dataset_path(own) != path:
        yield Finding(ERROR, name, f"belongs in {_dataset_path(own)}")
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
        own_counts, sums = _format_counts(manifest.counts), _format_counts(total)
        yield Finding(ERROR, name, f"counts {own_counts}, its parts sum to {sums}")


def _check_inputs(
    path: str,
    manifest: Manifest,
    manifests: Mapping[str, Manifest | None],
    counts_from: Mapping[str, Sequence[str]],
) -> Iterator[Finding]:
    """Check a manifest against those of its inputs."""
    name = f"{path}/{MANIFEST}"
    stages = counts_from.get(manifest.stage, ())
    kept: list[int] = []
    for item in manifest.inputs:
        other = manifests[_dataset_path(item)]
        if other is None:
            return  # reported with that input
        if other.content != item.get("content"):
            message = (
                f"{path} was made from content {item.get('content')}, which now is {other.content}"
            )
            yield Finding(ERROR, f"{_dataset_path(item)}/{MANIFEST}", message)
        if other.stage in stages:
            kept.append(other.counts.kept)
    if kept and sum(kept) != manifest.counts.n_in:
        message = (
            f"{manifest.counts.n_in} documents went in, but {' and '.join(stages)} kept {sum(kept)}"
        )
        yield Finding(ERROR, name, message)


def _unlisted_files(storage: Storage, path: str, manifest: Manifest) -> Iterator[Finding]:
    """Warn of files that no manifest lists: left by an interrupted run, or by a race."""
    known = {f"{folder}/{file.name}" for folder, file in manifest.located_files(path)}
    names = storage.subdir(*path.split("/")).list_files()
    unlisted = {f"{path}/{name}" for name in names if name != MANIFEST} - known
    if unlisted:  # other data sets of the stage may refer to them
        unlisted -= list_referenced_files(storage, manifest.stage)
    for file in sorted(unlisted):
        yield Finding(WARNING, file, "is not part of a data set")


def _check_file(storage: Storage, path: str, file: FileRecord) -> list[Finding]:
    """Check a file against its length and digest."""
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
        return [Finding(ERROR, name, f"{length} bytes, but {file.bytes} were committed")]
    if hasher.hexdigest() != file.sha256:
        message = f"SHA-256 {hasher.hexdigest()}, but {file.sha256} was committed"
        return [Finding(ERROR, name, message)]
    return []


def _check_part(storage: Storage, path: str, part: PartRecord) -> list[Finding]:
    """Check a part's counts against its ledger and its table, whose files are undamaged."""
    findings = []
    folder = part.folder or path
    ledger, table = part.files.get(VERDICTS_SUFFIX), part.files.get(TABLE_SUFFIX)
    if ledger is not None:
        with storage.open(f"{folder}/{ledger.name}") as stream:
            counts = Counts.from_ledger(pq.read_table(stream, columns=["verdict", "reason"]))
        if counts.to_json() != part.counts.to_json():
            in_ledger, in_manifest = _format_counts(counts), _format_counts(part.counts)
            message = f"the ledger has {in_ledger}, the manifest {in_manifest}"
            findings.append(Finding(ERROR, f"{folder}/{ledger.name}", message))
    if table is not None:
        with storage.open(f"{folder}/{table.name}") as stream:
            rows = pq.ParquetFile(stream).metadata.num_rows
        if not rows == part.num_rows == part.counts.kept:
            message = f"{rows} rows, the manifest has {part.num_rows} rows, {part.counts.kept} kept"
            findings.append(Finding(ERROR, f"{folder}/{table.name}", message))
    return findings


def _format_counts(counts: Counts) -> str:
    dropped, failed = _format_reasons(counts.dropped), _format_reasons(counts.failed)
    return f"in {counts.n_in} = kept {counts.kept} + dropped {dropped} + failed {failed}"


def _format_reasons(reasons: Mapping[str, int]) -> str:
    listed = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return f"{sum(reasons.values())}" + (f" ({listed})" if listed else "")
