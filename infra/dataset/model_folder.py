"""A released model as a folder on this machine."""

import hashlib
from functools import lru_cache
from pathlib import Path

from infra.dataset.dataset import Dataset
from infra.dataset.manifest import IntegrityError
from infra.store.cache_dir import cache_root
from infra.store.storage import Storage

MODEL_CONFIG = "config.json"


def model_folder(model: Dataset) -> Path:
    """Return the Hugging Face folder of a release on this machine; a remote one is downloaded first.

    Raises:
        FileNotFoundError: if the data set contains no model.
        IntegrityError: if a file that was downloaded is not the one that was committed.
    """
    files = {file.name: file.sha256 for file in model.manifest.files.values()}
    config = next((name for name in files if name.split("/")[-1] == MODEL_CONFIG), None)
    if config is None:
        raise FileNotFoundError(f"{model.storage.url} contains no {MODEL_CONFIG}")
    path = model.storage.local_path(config)
    if path is not None:
        return path.parent
    inside = config.removesuffix(MODEL_CONFIG)
    cache = cache_root() / "exports" / model.content
    wanted = tuple(item for item in files.items() if item[0].startswith(inside))
    _download_files(model.storage, wanted, cache)
    return cache / inside


@lru_cache(maxsize=1)
def _download_files(storage: Storage, files: tuple[tuple[str, str], ...], folder: Path) -> None:
    """Download files, by name and SHA-256, except those that the folder has; once per process."""
    for name, sha256 in files:
        path = folder / name
        if _file_sha256(path) != sha256:
            storage.download(name, path)
            if _file_sha256(path) != sha256:
                raise IntegrityError(f"{storage.url}/{name} is not the file that was committed")


def _file_sha256(path: Path) -> str | None:
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
