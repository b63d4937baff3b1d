"""Committed data sets: open one, and read its parts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from infra.dataset.fingerprint import json_sha256
from infra.dataset.manifest import (
    DATASET_DEPTH,
    MANIFEST,
    TABLE_SUFFIX,
    VERDICTS_SUFFIX,
    Counts,
    DatasetNotFoundError,
    IntegrityError,
    Manifest,
    PartRecord,
)
from infra.dataset.tables import read_table
from infra.store.storage import Storage


@contextmanager
def name_damage(storage: Storage, name: str) -> Iterator[None]:
    """Name the file if reading it fails because it is missing or is no Parquet file.

    Raises:
        IntegrityError: says which file, and what to do.
    """
    try:
        yield
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        what = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({error})"
        raise IntegrityError(
            f"{storage.url}/{name} is {what}; `gristmill verify` lists every such file, and a run "
            "builds the data set again once its folder is deleted"
        ) from error


@dataclass(frozen=True)
class PartRef:
    """A committed part, readable from any process.

    Attributes:
        storage: the folder that holds its files, which may be another data set's.
    """

    storage: Storage
    stage: str
    source: str | None
    record: PartRecord

    @property
    def name(self) -> str:
        """``00000`` or ``00000-001``."""
        return self.record.name

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        return self.record.num_rows

    @property
    def content(self) -> str:
        """Digest of the part's data files."""
        return json_sha256(self.record.data_digests)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The part's rows; ``columns`` narrows what is read. Raises ``IntegrityError``."""
        with name_damage(self.storage, self.file(TABLE_SUFFIX)):
            return read_table(self.storage, self.file(TABLE_SUFFIX), columns)

    def verdicts(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The part's rows of the ledger (``LEDGER_SCHEMA``). Raises ``IntegrityError``."""
        with name_damage(self.storage, self.file(VERDICTS_SUFFIX)):
            return read_table(self.storage, self.file(VERDICTS_SUFFIX), columns)

    def file(self, suffix: str) -> str:
        """The name, in ``storage``, of the part's file with this suffix. Raises ``KeyError``."""
        return self.record.files[suffix].name

    @contextmanager
    def open(self, suffix: str) -> Iterator[BinaryIO]:
        """The part's file with this suffix, for reading.

        Raises:
            IntegrityError: if it is missing, or is no Parquet file where it is read as one.
        """
        name = self.file(suffix)
        with name_damage(self.storage, name), self.storage.open(name) as file:
            yield file


@dataclass(frozen=True)
class Dataset:
    """A committed data set."""

    storage: Storage
    manifest: Manifest

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self.manifest.stage

    @property
    def source(self) -> str | None:
        """The source it belongs to; ``None`` if it spans them."""
        return self.manifest.source

    @property
    def fingerprint(self) -> str:
        """Digest of everything it was made from."""
        return self.manifest.fingerprint

    @property
    def content(self) -> str:
        """Digest of all data bytes."""
        return self.manifest.content

    @property
    def counts(self) -> Counts:
        """Documents in and out."""
        return self.manifest.counts

    @property
    def stats(self) -> Mapping[str, Any]:
        """Small stage-specific values."""
        return self.manifest.stats

    @property
    def parts(self) -> list[PartRef]:
        """The parts in the data set's order."""
        return part_refs(self.storage, self.stage, self.source, self.manifest.parts)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of all parts, in order. For small or narrow data only."""
        tables = [part.table(columns) for part in self.parts]
        return pa.concat_tables(tables) if tables else pa.table({})

    def read(self, name: str) -> bytes:
        """A file of the data set as a whole. Raises ``FileNotFoundError``."""
        if name not in self.manifest.files:
            raise FileNotFoundError(f"{self.storage.url} has no file {name!r}")
        return self.storage.read(self.manifest.files[name].name)


def part_refs(
    storage: Storage, stage: str, source: str | None, records: Sequence[PartRecord]
) -> list[PartRef]:
    """Return references to the parts of the data set in this folder, wherever their files are."""
    root = storage.parent(DATASET_DEPTH)
    folders = {
        path: storage if path is None else root.subdir(*path.split("/"))
        for path in {record.folder for record in records}
    }
    return [PartRef(folders[record.folder], stage, source, record) for record in records]


def open_dataset(storage: Storage) -> Dataset:
    """Read a committed data set.

    Raises:
        DatasetNotFoundError: if the folder has no manifest.
        IntegrityError: if its manifest cannot be read.
    """
    try:
        data = storage.read(MANIFEST)
    except FileNotFoundError as error:
        raise DatasetNotFoundError(f"{storage.url} is not a committed data set") from error
    return Dataset(storage, Manifest.from_bytes(data, f"{storage.url}/{MANIFEST}"))


def try_open_dataset(root: Storage, path: str) -> Dataset | None:
    """Open the data set at a path below the storage root.

    Returns:
        ``None`` if it does not exist, was deleted, or has a damaged manifest.
    """
    try:
        return open_dataset(root.subdir(*path.split("/")))
    except (DatasetNotFoundError, IntegrityError):
        return None
