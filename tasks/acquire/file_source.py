"""What an acquisition from files is made of: the same shape for every kind of source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.dataset.stage import DatasetSpec, PartResult, Stage, WorkUnit
from tasks.acquire.config import BooksSource, DocumentsSource, WarcSource

STAGE_NAME = "acquire"


@dataclass(frozen=True)
class FileAcquisition:
    """How a source is acquired from files.

    Attributes:
        stage: name and code of the kind's acquisition.
        config: what, besides the files' bytes, decides the result; JSON values.
        units: pieces of work, in the order of their parts; a key names a file's bytes, never its
            place.
        function: module-level; called with a unit's payload.
    """

    stage: Stage
    config: Mapping[str, Any]
    units: tuple[WorkUnit, ...]
    function: Callable[..., Iterable[PartResult]]


@dataclass(frozen=True)
class FileDatasetSpec(DatasetSpec):
    """A data set made from files.

    The files are part of its fingerprint (as ``raw``), but not of the configuration that names the
    receipts of its parts: with one file more, the others are not read again.

    Attributes:
        acquisition: how it is made.
    """

    acquisition: FileAcquisition | None = None


def plan_files(source: WarcSource | BooksSource | DocumentsSource) -> FileAcquisition:
    """Finds a source's files and reads each once for its digest.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    # Imported here: a recipe with one kind of source needs the libraries of that kind alone.
    function: Callable[..., Iterable[PartResult]]
    if isinstance(source, WarcSource):
        from tasks.acquire import warc

        chosen, units, function = (
            warc.fingerprint_config(source),
            warc.list_units(source),
            warc.read_warc,
        )
        # A record's compressed bytes are those of the machine's zlib.
        stage = Stage(STAGE_NAME, warc.MODULES, warc.LIBRARIES, deterministic=False)
    elif isinstance(source, BooksSource):
        from tasks.acquire.books import books

        chosen, units, function = (
            books.fingerprint_config(source),
            books.list_units(source),
            books.read_book,
        )
        stage = Stage(STAGE_NAME, books.MODULES, books.LIBRARIES)
    else:
        from tasks.acquire import documents

        chosen, units = documents.fingerprint_config(source), documents.list_units(source)
        function = documents.read_documents
        stage = Stage(STAGE_NAME, documents.MODULES, documents.LIBRARIES)
    config = {"name": source.name, "kind": source.kind, **chosen}
    return FileAcquisition(stage, config, tuple(units), function)
