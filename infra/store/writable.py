"""Where a run can write: what can hold a store, and whether store, cache and temporary folder do."""

import errno
import os
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from infra.store.cache_dir import ENV_VAR, cache_root
from infra.store.retry import is_storage_error
from infra.store.storage import Storage, StorageError

PROBE_BYTES = 1 << 20
# Errors of a disk that no retry solves: it is full, or not writable any more.
DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
# File systems that can hold a store: all machines of a run can write to them, and a write can be made
# to fail if the file exists.
STORE_PROTOCOLS = ("file", "local", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")

# What a file system that cannot take a file raises, besides the errors of its servers' libraries.
_STORE_ERRORS = (OSError, NotImplementedError, ValueError)


def check_store_url(url: str) -> str:
    """Return the URL of a store. Raises ``ValueError`` if its file system cannot hold one."""
    protocol, separator, _ = url.partition("://")
    if not url.strip():
        raise ValueError("a folder or a URL such as s3://bucket/prefix is expected")
    if separator and protocol not in STORE_PROTOCOLS:
        raise ValueError(
            f"{protocol}:// cannot hold a store; use a folder or one of "
            f"{', '.join(f'{name}://' for name in STORE_PROTOCOLS)}"
        )
    return url


def is_disk_error(error: BaseException) -> bool:
    """Return whether an error or one of its causes says that a disk is full or read-only."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK_ERRNOS:
            return True
        cause = cause.__cause__
    return False


def check_writable(storage: Storage) -> None:
    """Write to the store, to the cache of this machine and to the temporary folder.

    Raises:
        StorageError: if one of them cannot be written to; it is named.
    """
    _check_store(storage)
    for name, setting, folder in (
        ("cache", ENV_VAR, cache_root()),
        ("temporary folder", "TMPDIR", Path(tempfile.gettempdir())),
    ):
        probe = folder / f".tmp-{uuid.uuid4().hex}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with probe.open("wb") as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(
                f"the {name} {folder} cannot be written to ({reason}); free space there, or set "
                f"{setting} to another folder"
            ) from None
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


def _check_store(storage: Storage) -> None:
    """Check that the store takes files and refuses to overwrite one, on which commits stand."""
    probe = f".tmp-{uuid.uuid4().hex}"
    try:
        first = storage.put_if_absent(probe, bytes(PROBE_BYTES))
        if not first or storage.put_if_absent(probe, b"other"):
            raise StorageError(
                f"storage {storage.url}: the server overwrites a file that exists although it is asked "
                "not to (If-None-Match: *), so it cannot hold a store"
            )
    except Exception as error:
        if not (isinstance(error, _STORE_ERRORS) or is_storage_error(error)):
            raise
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = " ".join(text.split())
        raise StorageError(f"storage {storage.url} cannot be written to ({reason})") from error
    finally:
        with suppress(Exception):
            storage.remove(probe)
