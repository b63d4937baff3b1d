"""Whether this machine can train an entry, asked before there is anything to train it on.

The corpus may take hours; what can be told without it is told first. Nothing here is slow: torch
is imported only for an entry that asks for GPUs.
"""

import os
from collections.abc import Iterator

from infra.errors import UserError
from infra.store.storage import Storage, StorageError
from lm.config.train import TrainConfig
from lm.metrics.mlflow import require_mlflow


def gpu_count() -> int:
    """GPUs of this machine that torch sees."""
    import torch

    return int(torch.cuda.device_count())


def uses_gpus(config: TrainConfig, gpus: int) -> bool:
    """Whether the run takes GPUs: unless told otherwise, if there is one for every process."""
    return config.run.device != "cpu" and gpus >= config.run.local_processes


def required_resources(config: TrainConfig, gpus: int) -> tuple[int, int]:
    """Cores and GPUs of this machine that the run keeps busy, if it has ``gpus``.

    On GPUs a process has one of them and a core, from which it is driven; ``threads`` are the
    CPU's.
    """
    if uses_gpus(config, gpus):
        return config.run.local_processes, config.run.local_processes
    return config.run.cpu_cores, 0


def require_gpus(config: TrainConfig, gpus: int) -> None:
    """Raise ``UserError`` if the recipe asks for GPUs, and there is not one for every process."""
    if config.run.device == "cuda" and not uses_gpus(config, gpus):
        raise UserError(
            f"train.{config.name}.run.device: cuda, but torch sees {gpus} GPUs "
            f"for {config.run.local_processes} processes"
        )


def require_checkpoint_url(config: TrainConfig) -> None:
    """Raise ``UserError`` if ``checkpoints`` is no URL, or a folder that cannot be made."""
    if config.run.checkpoint_url is None:
        return
    field = f"train.{config.name}.run.checkpoint_url"
    try:
        path = Storage(config.run.checkpoint_url).local_path()
    except StorageError as error:
        raise UserError(f"{field}: {error}") from None
    if path is None:
        return
    there = next(folder for folder in (path, *path.parents) if os.access(folder, os.F_OK))
    if not there.is_dir():
        raise UserError(f"{field}: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{field}: the folder {there} cannot be written to")


def training_errors(config: TrainConfig) -> Iterator[UserError]:
    """All for which this machine cannot train this, each naming entry and field."""
    for check in (_require_mlflow_if_used, require_checkpoint_url, _require_device):
        try:
            check(config)
        except UserError as error:
            yield error


def _require_mlflow_if_used(config: TrainConfig) -> None:
    if config.run.mlflow_tracking_uri is not None:
        require_mlflow(config.name)


def _require_device(config: TrainConfig) -> None:
    if config.run.device == "cuda":
        require_gpus(config, gpu_count())


def training_warnings(config: TrainConfig, cores: int, gpus: int) -> Iterator[str]:
    """What is possible, but hardly meant.

    Args:
        config: what is to be trained.
        cores: of this machine.
        gpus: of this machine.
    """
    if uses_gpus(config, gpus):
        return
    name, processes = f"train.{config.name}", config.run.local_processes
    if gpus and config.run.device == "auto":
        yield (
            f"{name}.run.device: auto takes the CPU: {processes} processes (num_processes), but only {gpus} "
            f"GPUs; with num_processes {gpus * config.run.num_nodes} it trains on them"
        )
    if config.run.cpu_cores > cores:
        yield (
            f"{name}.run.num_processes: {processes} processes with {config.run.threads_per_process} threads on {cores} "
            "cores are slower than one for each core"
        )
