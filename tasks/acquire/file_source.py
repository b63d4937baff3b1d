"""Acquire a source from files: which stage, settings, units and function each kind of source has."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.dataset.stage import DatasetSpec, PartResult, Stage, WorkUnit
from tasks.acquire.config import BooksSource, FileSource, WarcSource

STAGE_NAME = "acquire"


@dataclass(frozen=True)
class FileAcquisition:
    """How a source is acquired from files.

    Attributes:
        stage: name and code of the kind's acquisition.
        config: the settings that decide the result, besides the files' bytes; JSON values.
        units: pieces of work, in the order of their parts; a key names a file's bytes, never where
            the file is.
        function: module-level; called with a unit's payload.
    """

    stage: Stage
    config: Mapping[str, Any]
    units: tuple[WorkUnit, ...]
    function: Callable[..., Iterable[PartResult]]


@dataclass(frozen=True)
class FileDatasetSpec(DatasetSpec):
    """A data set made from files.

    The files are part of its fingerprint (as ``external_inputs``), but not of the configuration that
    names its unit cache entries: when a file is added, the others are not read again.

    Attributes:
        acquisition: how it is acquired.
    """

    acquisition: FileAcquisition | None = None


def plan_files(source: FileSource) -> FileAcquisition:
    """Find a source's files, with the digest of each.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    # Imported here: a recipe with one kind of source needs the libraries of that kind alone.
    function: Callable[..., Iterable[PartResult]]
    libraries: tuple[str, ...]
    if isinstance(source, WarcSource):
        from tasks.acquire import warc

        modules, libraries = warc.MODULES, warc.LIBRARIES
        config, units = warc.fingerprint_config(source), warc.list_units(source)
        function = warc.read_warc
    elif isinstance(source, BooksSource):
        from tasks.acquire.books import books

        modules, libraries = books.MODULES, books.LIBRARIES
        config, units = books.fingerprint_config(source), books.list_units(source)
        function = books.read_book
    else:
        from tasks.acquire import documents

        modules, libraries = documents.MODULES, documents.LIBRARIES
        config, units = documents.fingerprint_config(source), documents.list_units(source)
        function = documents.read_documents
    # Another version of the code may read other bytes from the same files, under the same name.
    stage = Stage(STAGE_NAME, modules, libraries, deterministic=False, keyed_by_code=False)
    chosen = {"name": source.name, "kind": source.kind, "snapshot": source.snapshot, **config}
    return FileAcquisition(stage, chosen, tuple(units), function)
