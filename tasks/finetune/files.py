"""The files of examples that an entry of `finetune` names."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from infra.dataset.fingerprint import bytes_sha256
from infra.errors import UserError
from infra.store.external_files import expand_globs, read_url
from infra.store.storage import StorageError, is_remote
from tasks.finetune.data.hf_folder import list_hf_files
from tasks.finetune.data.records import DataFileError
from tasks.finetune.entry import FinetuneEntry


class TaskFileError(UserError):
    """A file of examples that cannot be read; the message names its field."""


@dataclass(frozen=True)
class TaskFile:
    """A file of examples, with the second one of a pair. Picklable.

    Attributes:
        split: ``train``, ``validation`` or ``test``, or ``files``: drawn per example.
        names: base names, or if several files of the entry have the same one, paths below the folder that
            holds them all. Whole URLs may hold a secret, and are not kept.
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
    located = [
        (own, urls, field)
        for split, patterns in entry.data.by_split.items()
        for number, pattern in enumerate(patterns)
        for field in [f"finetune.{entry.name}.data.{split}.{number}"]
        for own, urls in _locate(split, pattern, field)
    ]
    names = name_files([url for _, urls, _ in located for url in urls])
    return [
        TaskFile(
            split,
            tuple(names[url] for url in urls),
            tuple(_read(url, field) for url in urls),
        )
        for split, urls, field in located
    ]


def name_files(urls: Sequence[str]) -> dict[str, str]:
    """Name files by their base names; by their paths below a common folder if two have the same."""
    paths = {url: PurePosixPath(urlsplit(url).path) for url in urls}
    if len({path.name for path in paths.values()}) == len(paths):
        return {url: path.name for url, path in paths.items()}
    levels = zip(*(path.parts[:-1] for path in paths.values()), strict=False)
    common = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    return {url: PurePosixPath(*path.parts[common:]).as_posix() for url, path in paths.items()}


def _locate(
    split: str, pattern: str | tuple[str, str], field: str
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the split and the URLs of each file that a pattern names; two of a pair."""
    if not isinstance(pattern, str):
        yield split, pattern
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
        yield own or split, (url,)
    if folder is not None:
        return
    if not is_remote(pattern) and Path(pattern).is_dir():
        raise TaskFileError(
            f"{field}: {pattern!r} is a folder, but none that save_to_disk of datasets wrote; name its files, as in "
            f"{str(Path(pattern) / '*.jsonl')!r}"
        )
    try:
        urls = list(expand_globs([pattern]))
    except StorageError as error:
        raise TaskFileError(f"{field}: {error}") from None
    for url in urls:
        yield split, (url,)


def _may_be_folder(pattern: str) -> bool:
    """Return whether a pattern can be a folder: it is one here, or has no wildcard, suffix or query."""
    parts = urlsplit(pattern)
    if not is_remote(pattern) and Path(pattern).is_dir():
        return True
    return not (parts.query or PurePosixPath(parts.path).suffix or glob.has_magic(pattern))


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
