"""What the kinds of sources have in common; `tasks.acquire.config` lists the kinds."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, StringConstraints

from infra.config import ConfigModel
from infra.dataset.fingerprint import json_sha256
from infra.dataset.stage import PartResult, WorkUnit
from tasks.acquire.input_files import InputFile, list_files

STAGE_NAME = "acquire"

# The default User-Agent header.
USER_AGENT = "gristmill/0.1"

# A product token first (RFC 9110, 10.1.5).
UserAgent = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+[/ ]?[\x20-\x7e]*$")]


def _check_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {pattern!r}: {error}") from None
    return pattern


Regex = Annotated[str, AfterValidator(_check_regex)]


class Source(ConfigModel):
    """The settings of every source."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = Field(
        description="name of the source; part of every document's id"
    )
    kind: str
    snapshot: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] | None = Field(
        default=None,
        description="a label; when it changes, the source is read again, whatever was read before",
    )
    license: str | None = Field(
        default=None, description="license of documents that do not state one"
    )

    # Whether its documents are web pages, from which `extract` has to take the text.
    needs_extraction: ClassVar[bool] = False


class FileSource(Source, ABC):
    """A source that is read from files."""

    paths: tuple[str, ...] = Field(min_length=1, description="paths, globs or URLs of files")

    # Distributions whose version is recorded in the manifest.
    libraries: ClassVar[tuple[str, ...]] = ()

    # Ledger rows of every file, where they are known before it is read.
    rows_per_file: ClassVar[int | None] = None

    def output_config(self) -> dict[str, Any]:
        """The settings that decide the output besides the files' bytes, as JSON values."""
        return {key: value for key, value in self.to_json().items() if key != "paths"}

    def list_units(self) -> list[WorkUnit]:
        """The pieces of work in the order of their parts, here one per file.

        A unit's key names a file's bytes, never where the file is. Every file is read once, for its
        digest.

        Raises:
            UserError: if a pattern matches nothing or a file cannot be read.
        """
        return [
            WorkUnit(
                json_sha256({"file": file.digest, "name": file.name}),
                (self, file),
                expected_rows=self.rows_per_file,
            )
            for file in list_files(self.paths)
        ]

    @abstractmethod
    def read_file(self, file: InputFile) -> Iterator[PartResult]:
        """Read a file; yield at least one part.

        Raises:
            UserError: if the file has changed since the unit was made.
        """


def read_unit(source: FileSource, *arguments: Any) -> Iterator[PartResult]:
    """Read a piece of work of a source."""
    return source.read_file(*arguments)
