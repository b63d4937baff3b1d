"""A released model as a folder on this machine."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.local_files import local_file
from infra.dataset.manifest import FileRecord
from infra.store.cache_dir import cache_root
from infra.store.storage import Storage

MODEL_CONFIG = "config.json"
# What decides a released model's scores: weights, config, own code.
_DECISIVE_ENDINGS = (".safetensors", ".safetensors.index.json", ".py", MODEL_CONFIG)


def digest_weights(digests: Mapping[str, str]) -> str:
    """Return the digest by which a released model is known.

    Args:
        digests: SHA-256 of the release's files by their names; those that decide no score do not count.
    """
    return json_sha256(
        sorted([name, sha256] for name, sha256 in digests.items() if is_decisive(name))
    )


def is_decisive(name: str) -> bool:
    """Return whether a file of a release decides the model's scores."""
    return name.endswith(_DECISIVE_ENDINGS)


def model_folder(model: Dataset) -> Path:
    """Return the Hugging Face folder of a release on this machine; a remote one is downloaded first.

    Raises:
        FileNotFoundError: if the data set contains no model.
        IntegrityError: if a file that was downloaded is not the one that was committed.
    """
    files = {file.name: file for file in model.manifest.files.values()}
    configs = [name for name in files if name.split("/")[-1] == MODEL_CONFIG]
    # A release for search also has one of its pooling, in a folder below.
    config = min(configs, key=lambda name: name.count("/"), default=None)
    if config is None:
        raise FileNotFoundError(f"{model.storage.url} contains no {MODEL_CONFIG}")
    inside = config.removesuffix(MODEL_CONFIG)
    wanted = tuple(file for name, file in files.items() if name.startswith(inside))
    return _local_folder(
        model.storage, wanted, files[config], cache_root() / "exports" / model.content
    )


@lru_cache(maxsize=1)
def _local_folder(
    storage: Storage, files: tuple[FileRecord, ...], config: FileRecord, cache: Path
) -> Path:
    """Return the folder of ``config``, once all files are there; a process checks them once."""
    if storage.local_path() is None:
        for file in files:
            local_file(storage, file, cache)
    return local_file(storage, config, cache).parent
