"""Files of committed data sets as paths of this machine; those of a remote store are downloaded once."""

import hashlib
from pathlib import Path

from infra.dataset.manifest import FileRecord, IntegrityError
from infra.store.storage import Storage


def local_file(storage: Storage, file: FileRecord, cache: Path) -> Path:
    """Return a committed file's path; one of a remote store is downloaded into ``cache``.

    Raises:
        FileNotFoundError: if the store does not have it.
        IntegrityError: if what was downloaded is not the file that was committed.
    """
    path = storage.local_path(file.name)
    if path is not None:
        return path
    path = cache / file.name
    if file_sha256(path) != file.sha256:
        storage.download(file.name, path)
        if file_sha256(path) != file.sha256:
            raise IntegrityError(f"{storage.url}/{file.name} is not the file that was committed")
    return path


def file_sha256(path: Path) -> str | None:
    """Return a file's digest; ``None`` if there is no such file."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
