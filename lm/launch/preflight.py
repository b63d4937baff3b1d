"""Checks whether this machine can train an entry, made before a corpus is built for hours.

They are fast: torch is imported only for an entry that asks for GPUs.
"""

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from infra.errors import UserError
from infra.store.storage import Storage, StorageError
from lm.config.loop import RunsOnThisMachine
from lm.config.train import TrainConfig
from lm.distributed.devices import gpu_count, require_gpus, uses_gpus
from lm.metrics.mlflow import require_mlflow
from lm.models.registry import hf_modules


def required_resources(config: RunsOnThisMachine, gpus: int) -> tuple[int, int]:
    """Return the cores and GPUs of this machine that the run occupies, if it has ``gpus``.

    On GPUs each process takes one of them and one core; ``threads_per_process`` is for CPUs.
    """
    if uses_gpus(config, gpus):
        return config.run.local_processes, config.run.local_processes
    return config.run.cpu_cores, 0


def training_errors(config: RunsOnThisMachine) -> Iterator[UserError]:
    """Yield every reason why this machine cannot train this, with entry and field."""
    for check in (_check_export, _check_mlflow, _check_checkpoint_url, _check_device):
        try:
            check(config)
        except UserError as error:
            yield error


def _check_export(config: RunsOnThisMachine) -> None:
    """Check that the model can be released, as every trained model is."""
    if isinstance(config, TrainConfig) and not hf_modules(config.package):
        raise UserError(
            f"train.{config.name}.family: models of the package {config.package} cannot be "
            "released: it has no module hf, which exports them to transformers"
        )


def _check_mlflow(config: RunsOnThisMachine) -> None:
    if config.run.mlflow_tracking_uri is not None:
        require_mlflow(config.field)


def _check_checkpoint_url(config: RunsOnThisMachine) -> None:
    """Check that ``checkpoint_url`` is a URL, or a folder that can be created."""
    if config.run.checkpoint_url is None:
        return
    field = f"{config.field}.run.checkpoint_url"
    try:
        path = Storage(config.run.checkpoint_url).local_path()
    except StorageError as error:
        raise UserError(f"{field}: {error}") from None
    if path is None:
        return
    existing = next(folder for folder in (path, *path.parents) if os.access(folder, os.F_OK))
    if not existing.is_dir():
        raise UserError(f"{field}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{field}: the folder {existing} is not writable")


def _check_device(config: RunsOnThisMachine) -> None:
    if config.run.device == "cuda":
        require_gpus(config, gpu_count())


def training_warnings(config: RunsOnThisMachine, cores: int, gpus: int) -> Iterator[str]:
    """Yield warnings about settings that work on this machine but are probably not intended."""
    if uses_gpus(config, gpus):
        return
    name, processes = f"{config.field}.run", config.run.local_processes
    if gpus and config.run.device == "auto":
        yield (
            f"{name}.device: auto uses the CPU, because there are only {gpus} GPUs for "
            f"num_processes {processes}; with num_processes {gpus * config.run.num_nodes} it "
            "trains on them"
        )
    if config.run.cpu_cores > cores:
        yield (
            f"{name}.num_processes: {processes} processes with {config.run.threads_per_process} "
            f"threads on {cores} cores are slower than one for each core"
        )
    precision = config.run.precision
    if precision != "fp32" and not has_half_precision(precision, _cpu_features()):
        yield (
            f"{name}.precision: this processor has no instructions for {precision}, which is then "
            "tens of times slower than fp32"
        )


def has_half_precision(precision: str, features: AbstractSet[str]) -> bool:
    """Return whether a CPU multiplies matrices in ``bf16`` or ``fp16`` with instructions for it.

    Without them torch multiplies element by element: on a Zen 3 core 1.2 instead of 65 GFLOP/s. What it asks for
    are its ``mkldnn_bf16_device_check`` and ``mkldnn_fp16_device_check``.

    Args:
        precision: ``bf16`` or ``fp16``.
        features: the processor's, as Linux names them (``flags`` or ``Features`` of ``/proc/cpuinfo``);
            none: unknown, taken for one that can.
    """
    needed = {
        "bf16": {"avx512bw", "avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"},
        "fp16": {"avx512_fp16", "amx_fp16", "avx_ne_convert", "asimdhp"},
    }
    return not features or bool(needed[precision] & features)


def _cpu_features() -> AbstractSet[str]:
    """Return the features of the first processor; none if the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(found.partition(":")[2].split())
