"""The manifest, which commits a data set, and counts that must add up."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import DROPPED, FAILED, KEPT
from infra.errors import UserError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
TABLE_SUFFIX, VERDICTS_SUFFIX = "parquet", "verdicts.parquet"
# Files below this folder of a data set are logs: checksummed, but no part of its content.
LOGS = "logs/"
FINGERPRINT_CHARS = 16  # characters of a fingerprint in a folder's name
DATASET_DEPTH = 2  # folders from the storage root to a data set: stage, name


def dataset_path(stage: str, source: str | None, fingerprint: str) -> str:
    """Return the folder of a data set below the storage root."""
    return f"{stage}/{source or 'all'}-{fingerprint[:FINGERPRINT_CHARS]}"


def input_path(item: Mapping[str, Any]) -> str:
    """Return the folder, below the storage root, of a data set that a manifest names as an input."""
    return dataset_path(item["stage"], item["source"], item["fingerprint"])


class DatasetNotFoundError(UserError):
    """A folder without a manifest: its files are not a data set."""


class IntegrityError(UserError):
    """Counts that do not add up, or bytes that differ where they must not."""


@dataclass(frozen=True)
class Counts:
    """Documents that entered a stage and what became of each: ``in = kept + dropped + failed``."""

    n_in: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Counts") -> "Counts":
        dropped = Counter(self.dropped) + Counter(other.dropped)
        failed = Counter(self.failed) + Counter(other.failed)
        return Counts(self.n_in + other.n_in, self.kept + other.kept, dropped, failed)

    def check(self, where: str) -> None:
        """Raise ``IntegrityError`` unless every document is accounted for."""
        dropped, failed = sum(self.dropped.values()), sum(self.failed.values())
        out = self.kept + dropped + failed
        if self.n_in != out:
            raise IntegrityError(
                f"{where}: {self.n_in} documents went in, but {self.kept} kept + {dropped} dropped + "
                f"{failed} failed = {out}"
            )

    def to_json(self) -> dict[str, Any]:
        """As written in manifests: ``{"in", "kept", "dropped", "failed"}``."""
        return {
            "in": self.n_in,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "failed": dict(sorted(self.failed.items())),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Counts":
        """The reverse of ``to_json``."""
        return Counts(value["in"], value["kept"], value["dropped"], value["failed"])

    @staticmethod
    def from_ledger(ledger: pa.Table) -> "Counts":
        """Count the rows of a ledger by verdict and reason."""
        groups = ledger.group_by(["verdict", "reason"]).aggregate([([], "count_all")]).to_pylist()
        counts: dict[str, dict[str, int]] = {KEPT: {}, DROPPED: {}, FAILED: {}}
        for row in sorted(groups, key=str):
            counts.setdefault(row["verdict"], {})[str(row["reason"])] = row["count_all"]
        kept = sum(counts[KEPT].values())
        return Counts(ledger.num_rows, kept, counts[DROPPED], counts[FAILED])


@dataclass(frozen=True)
class FileRecord:
    """A committed file: its name in the data set's folder, length and SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PartRecord:
    """A part as the manifest lists it.

    Attributes:
        name: ``00000``, or ``00000-001`` for a further part of the same unit of work.
        num_rows: rows of its table.
        text_bytes: UTF-8 bytes of the ``text`` column; 0 if the table has none.
        counts: documents in and out.
        files: its files by suffix: ``parquet``, ``verdicts.parquet`` and what the stage adds.
        folder: the folder below the storage root that holds the files, where that is another data
            set's: the part was made for that one and is unchanged. ``None``: the data set's own.
    """

    name: str
    num_rows: int
    text_bytes: int
    counts: Counts
    files: Mapping[str, FileRecord]
    folder: str | None = None

    @property
    def data_digests(self) -> list[list[str]]:
        """Suffix and SHA-256 of its data files: all but the verdicts."""
        files = sorted(self.files.items())
        return [[suffix, file.sha256] for suffix, file in files if suffix != VERDICTS_SUFFIX]

    def to_json(self) -> dict[str, Any]:
        """As written in manifests and unit cache entries."""
        value = {
            "name": self.name,
            "num_rows": self.num_rows,
            "text_bytes": self.text_bytes,
            "counts": self.counts.to_json(),
            "files": {suffix: asdict(file) for suffix, file in sorted(self.files.items())},
        }
        return value if self.folder is None else {**value, "folder": self.folder}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "PartRecord":
        """The reverse of ``to_json``."""
        return PartRecord(
            value["name"],
            value["num_rows"],
            value["text_bytes"],
            Counts.from_json(value["counts"]),
            {suffix: FileRecord(**file) for suffix, file in value["files"].items()},
            value.get("folder"),
        )


@dataclass(frozen=True)
class Manifest:
    """What a data set is, was made from, and holds. Free of clocks, hosts and storage roots.

    Attributes:
        inputs: stage, source, fingerprint and content of each data set it was made from.
        code_version: digest of the stage's code and of the libraries that decide its bytes;
            ``None`` for an acquisition, which is named without them.
        files: files of the data set as a whole, by name.
        stats: small stage-specific JSON values, such as a vocabulary's size.
        external_inputs: digests of what it was made from besides data sets, such as a user's files, and marks
            (``DatasetSpec``).
        provenance: what the run that committed it would make its parts with: digest of the code,
            versions of libraries.
    """

    stage: str
    source: str | None
    fingerprint: str
    code_version: str | None
    config: Mapping[str, Any]
    inputs: Sequence[Mapping[str, Any]]
    counts: Counts
    parts: Sequence[PartRecord]
    files: Mapping[str, FileRecord]
    stats: Mapping[str, Any]
    external_inputs: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """Digest of all data bytes: what later stages depend on."""
        parts = [[part.name, *digest] for part in self.parts for digest in part.data_digests]
        files = [[name, file.sha256] for name, file in sorted(self.files.items())]
        return json_sha256([parts, [file for file in files if not file[0].startswith(LOGS)]])

    @property
    def all_files(self) -> list[FileRecord]:
        """All committed files but the manifest itself."""
        return [file for _, file in self.located_files("")]

    def located_files(self, own_folder: str) -> list[tuple[str, FileRecord]]:
        """All committed files but the manifest, each with the folder that holds it."""
        return [
            *((part.folder or own_folder, f) for part in self.parts for f in part.files.values()),
            *((own_folder, file) for file in self.files.values()),
        ]

    def to_bytes(self) -> bytes:
        """The manifest file: indented JSON, keys sorted."""
        value = {
            "format": FORMAT_VERSION,
            "stage": self.stage,
            "source": self.source,
            "fingerprint": self.fingerprint,
            "content": self.content,
            "code_version": self.code_version,
            "config": self.config,
            "inputs": list(self.inputs),
            "external_inputs": list(self.external_inputs),
            "counts": self.counts.to_json(),
            "bytes": sum(file.bytes for file in self.all_files),
            "parts": [part.to_json() for part in self.parts],
            "files": {name: asdict(file) for name, file in self.files.items()},
            "stats": self.stats,
            "provenance": self.provenance,
        }
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"

    @staticmethod
    def from_bytes(data: bytes, where: str) -> "Manifest":
        """Read a manifest file. Raises ``IntegrityError`` if it is not one."""
        try:
            value = json.loads(data)
            if (version := value["format"]) != FORMAT_VERSION:
                raise IntegrityError(f"{where}: manifest format {version}, not {FORMAT_VERSION}")
            return Manifest(
                value["stage"],
                value["source"],
                value["fingerprint"],
                value["code_version"],
                value["config"],
                value["inputs"],
                Counts.from_json(value["counts"]),
                [PartRecord.from_json(part) for part in value["parts"]],
                {name: FileRecord(**file) for name, file in value["files"].items()},
                value["stats"],
                tuple(value["external_inputs"]),
                value["provenance"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{where}: not a manifest ({error!r})") from error
