"""What an acquisition from files is made of: the same shape for every kind of source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.dataset.stage import Outcome, Spec, Stage, Unit
from tasks.acquire.config import BooksSource, DocumentsSource, WarcSource

NAME = "acquire"


@dataclass(frozen=True)
class Plan:
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
    units: tuple[Unit, ...]
    function: Callable[..., Iterable[Outcome]]


@dataclass(frozen=True)
class FileSpec(Spec):
    """A data set made from files.

    The files are part of its fingerprint (as ``raw``), but not of the configuration that names the
    receipts of its parts: with one file more, the others are not read again.

    Attributes:
        plan: how it is made.
    """

    plan: Plan | None = None


def plan(source: WarcSource | BooksSource | DocumentsSource) -> Plan:
    """Finds a source's files and reads each once for its digest.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    # Imported here: a recipe with one kind of source needs the libraries of that kind alone.
    function: Callable[..., Iterable[Outcome]]
    if isinstance(source, WarcSource):
        from tasks.acquire import warc

        chosen, units, function = warc.config(source), warc.units(source), warc.read_warc
        # A record's compressed bytes are those of the machine's zlib.
        stage = Stage(NAME, warc.MODULES, warc.LIBRARIES, deterministic=False)
    elif isinstance(source, BooksSource):
        from tasks.acquire.books import books

        chosen, units, function = books.config(source), books.units(source), books.read_book
        stage = Stage(NAME, books.MODULES, books.LIBRARIES)
    else:
        from tasks.acquire import documents

        chosen, units = documents.config(source), documents.units(source)
        function = documents.read_documents
        stage = Stage(NAME, documents.MODULES, documents.LIBRARIES)
    config = {"name": source.name, "kind": source.kind, **chosen}
    return Plan(stage, config, tuple(units), function)
