"""The folder in which a model is trained until it is committed: it survives a crash."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from infra.config import flatten_sections
from infra.dataset.fingerprint import json_sha256
from infra.dataset.stage import DatasetSpec
from infra.store.cache_dir import cache_root
from infra.store.file_lock import file_lock
from infra.store.storage import Storage
from lm.config.loop import LoopConfig

# A run may resume with other values of these: they say how the work is distributed.
FREE_AT_RESUME = frozenset(
    {
        "data.micro_batch_size",
        "run.num_processes",
        "run.threads_per_process",
        "run.device",
        "run.compile",
        "run.data_parallel",
        "run.activation_checkpointing",
    }
)


def work_folder(spec: DatasetSpec) -> Path:
    """Return where the run works until it is committed.

    It is the same after a crash, and if the work is distributed in another way.
    """
    inputs = [*(item.content for item in spec.inputs), *spec.external_inputs]
    run = [spec.source, spec.stage.code_version, fixed_config(spec), inputs]
    return cache_root() / "train" / json_sha256(run)[:32]


def fixed_config(spec: DatasetSpec) -> dict[str, Any]:
    """Return the configuration by dotted field name, without what a resumed run may change."""
    fields = flatten_sections(spec.config)
    return {name: value for name, value in fields.items() if name not in FREE_AT_RESUME}


@contextmanager
def folder_lock(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Wait until no other process trains in this folder; ``on_wait`` is called if one does.

    The folder exists in the block. If that leaves it empty, since the other process has made the model, it
    is deleted.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(folder.with_name(f"{folder.name}.lock"), on_wait):
        folder.mkdir(exist_ok=True)
        try:
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()


def checkpoint_url(config: LoopConfig, folder: Path) -> str:
    """Return where a run that works in this folder keeps its checkpoints."""
    if config.run.checkpoint_url is None:
        return str(folder / "checkpoints")
    root = Storage(config.run.checkpoint_url)
    return f"{str(root.local_path() or root.url).rstrip('/')}/{folder.name}"
