"""Whether a GPU gives the same bits twice, and NCCL the losses of a process alone.

    python -m benchmarks.train_gpu_exact resume|nccl DEVICE STEPS

``check_resume``: in deterministic mode, a run that goes on from a checkpoint in new processes, started as
the product starts them, beside the undisturbed one: are the weights equal to the bit? ``compare_nccl``: DDP
and FSDP2 over a process group of one (NCCL takes no two processes on a GPU; on a CPU: gloo) beside
a process without any: the greatest relative difference of a step's loss, in fp32.

Prints one line of JSON: ``{"same": true, ...}`` or ``{"ddp": 0.0, "fsdp": 0.0}``.
"""

import json
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch.distributed import destroy_process_group, init_process_group

from benchmarks.train_text import draw_ids, shards
from infra.dataset.dataset import Dataset
from lm.checkpoint.marker import checkpoint_name
from lm.config.train import TrainConfig
from lm.distributed import parallel
from lm.launch.torchrun import launch
from lm.metrics.goodput import ATTEMPTS
from lm.metrics.logger import read_jsonl
from lm.models.causal_lm import WEIGHTS
from lm.train import loop
from lm.train.job import TrainJob
from lm.train.loop import train
from lm.train.worker import set_deterministic
from tests.train_entry import train_config

VOCABULARY, SEED = 2048, 1337


def config(device: str, steps: int, **changes: Any) -> TrainConfig:
    """A model of some three million parameters with everything that draws or averages."""
    given: dict[str, Any] = {
        "name": "exact", "num_layers": 4, "hidden_size": 192, "num_heads": 3, "context_length": 128, "global_batch_size": 16,
        "train_tokens": steps * 16 * 128, "num_processes": 1, "threads_per_process": 2, "device": device, "max_restarts": 0,
        "lr": 0.001, "warmup_fraction": 0.2,
        "log_interval": 1, "checkpoint_interval": 1 << 30, "validation_interval": 1 << 30,
    }  # fmt: skip
    return train_config(**given | changes)


def check_resume(folder: Path, device: str, steps: int, *, compiled: bool) -> dict[str, Any]:
    """Train, and again from the checkpoint in the middle; compare weights and losses."""
    tokens = shards(draw_ids(VOCABULARY), VOCABULARY, folder / "store")
    half = steps // 2
    settings = config(
        device, steps, deterministic=True, dropout=0.1, ema_decay=0.99, compile=compiled,
        checkpoint_interval=half, keep_last=3,
    )  # fmt: skip
    whole, resumed = folder / "whole", folder / "resumed"
    for at in (whole, resumed):
        if at is resumed:
            kept = Path("checkpoints", checkpoint_name(half))
            shutil.copytree(whole / kept, resumed / kept)
        key = {"tokens": tokens.content}
        launch(TrainJob(settings, SEED, tokens.storage, at, key), lambda _: None)
    begun = [attempt["step"] for attempt in read_jsonl(resumed / ATTEMPTS)]
    return {
        "same": (whole / WEIGHTS).read_bytes() == (resumed / WEIGHTS).read_bytes(),
        # The checkpoint brought the log of the first half along.
        "same_losses": read_losses(whole) == read_losses(resumed),
        "resumed_at": begun[-1],
        "resumed": begun == [0, half],
    }


def read_losses(folder: Path) -> list[float]:
    """Of each step."""
    return [line["loss"] for line in read_jsonl(folder / "metrics.jsonl")]


def compare_nccl(folder: Path, device: str, steps: int) -> dict[str, float]:
    """Greatest relative difference of a loss by the way of being parallel."""
    set_deterministic()
    tokens = shards(draw_ids(VOCABULARY), VOCABULARY, folder / "store")
    alone = train_losses(tokens, folder / "alone", config(device, steps, precision="fp32"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    init_process_group(backend, init_method=meeting, rank=0, world_size=1)
    found = {}
    for way in ("ddp", "fsdp"):
        settings = config(device, steps, precision="fp32", data_parallel=way)
        # `parallelize` leaves a single process's model as it is.
        with patch.object(loop, "parallelize", parallel.wrap_data_parallel):
            theirs = train_losses(tokens, folder / way, settings)
        found[way] = max(abs(b - a) / a for a, b in zip(alone, theirs, strict=True))
    destroy_process_group()
    return found


def train_losses(tokens: Dataset, folder: Path, settings: TrainConfig) -> list[float]:
    """The loss of each step of a run in this process."""
    train(TrainJob(settings, SEED, tokens.storage, folder))
    return read_losses(folder)


def main() -> None:
    """Do the one that is asked for."""
    what, device, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with tempfile.TemporaryDirectory() as name:
        if what == "nccl":
            told: dict[str, Any] = compare_nccl(Path(name), device, steps)
        else:
            told = check_resume(Path(name), device, steps, compiled=what == "resume-compiled")
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
