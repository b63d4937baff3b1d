"""The GPUs that a training run uses. torch is imported only when they are counted: it takes seconds."""

from infra.errors import UserError
from lm.config.loop import RunsOnThisMachine


def gpu_count() -> int:
    """Return the number of GPUs of this machine that torch finds."""
    import torch

    return int(torch.cuda.device_count())


def uses_gpus(config: RunsOnThisMachine, gpus: int) -> bool:
    """Return whether the run uses GPUs: by default, if there is one for every process."""
    return config.run.device != "cpu" and gpus >= config.run.local_processes


def require_gpus(config: RunsOnThisMachine, gpus: int) -> None:
    """Raise ``UserError`` if the recipe asks for GPUs and there is not one for every process."""
    if config.run.device == "cuda" and not uses_gpus(config, gpus):
        raise UserError(
            f"{config.field}.run.device: cuda, but torch finds {gpus} GPUs "
            f"for {config.run.local_processes} processes"
        )
