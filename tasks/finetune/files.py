"""The files of examples that an entry of `finetune` names."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from infra.dataset.fingerprint import bytes_sha256
from infra.errors import UserError
from infra.store.external_files import expand_globs, read_url
from infra.store.storage import StorageError, is_remote
from tasks.finetune.config import FinetuneEntry
from tasks.finetune.data.hf_folder import list_hf_files
from tasks.finetune.data.records import DataFileError


class TaskFileError(UserError):
    """A file of examples that cannot be read; the message names its field."""


@dataclass(frozen=True)
class TaskFile:
    """A file of examples, with the second one of a pair. Picklable.

    Attributes:
        split: ``train``, ``validation`` or ``test``, or ``files``: drawn per example.
        names: base names; URLs may hold a secret, and are not kept.
        data: their bytes.
    """

    split: str
    names: tuple[str, ...]
    data: tuple[bytes, ...]

    @property
    def key(self) -> list[object]:
        """What its examples depend on."""
        return [self.split, list(self.names), [bytes_sha256(data) for data in self.data]]


def load_files(entry: FinetuneEntry) -> list[TaskFile]:
    """Read the files of an entry, in the order of splits and names.

    Raises:
        TaskFileError: if one is missing or cannot be read.
    """
    return [
        file
        for split, patterns in entry.data.by_split.items()
        for number, pattern in enumerate(patterns)
        for file in _load(split, pattern, f"finetune.{entry.name}.data.{split}.{number}")
    ]


def _load(split: str, pattern: str | tuple[str, str], field: str) -> Iterator[TaskFile]:
    if not isinstance(pattern, str):
        yield TaskFile(
            split,
            tuple(_base_name(url) for url in pattern),
            tuple(_read(url, field) for url in pattern),
        )
        return
    folder = None
    if _may_be_folder(pattern):
        try:
            folder = list_hf_files(pattern, lambda url: _read_if_exists(url, field))
        except DataFileError as error:
            raise TaskFileError(f"{field}: {error}") from None
    for url, own in folder or ():
        if own is not None and split != "files":
            raise TaskFileError(
                f"{field}: {pattern!r} has splits of its own; name it under data.files, or one of "
                "its folders here"
            )
        yield TaskFile(own or split, (_base_name(url),), (_read(url, field),))
    if folder is not None:
        return
    try:
        urls = list(expand_globs([pattern]))
    except StorageError as error:
        raise TaskFileError(f"{field}: {error}") from None
    for url in urls:
        yield TaskFile(split, (_base_name(url),), (_read(url, field),))


def _may_be_folder(pattern: str) -> bool:
    """Return whether a pattern can be a folder: it is one here, or has no wildcard, suffix or query."""
    parts = urlsplit(pattern)
    if not is_remote(pattern) and Path(pattern).is_dir():
        return True
    return not (parts.query or PurePosixPath(parts.path).suffix or glob.has_magic(pattern))


def _base_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


def _read_if_exists(url: str, field: str) -> bytes | None:
    try:
        return _read(url, field)
    except TaskFileError:
        return None  # no folder of `datasets`; as a file it is read next, and reported then


def _read(url: str, field: str) -> bytes:
    try:
        return read_url(url)
    except StorageError as error:
        raise TaskFileError(f"{field}: {error}") from None
