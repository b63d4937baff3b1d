"""Check that a GPU gives the same bits twice, and NCCL the losses of one process.

    python -m benchmarks.train_gpu_exact resume|nccl DEVICE STEPS

``check_resume``: in deterministic mode, compare the weights of a run that resumes from a checkpoint in
new processes bit for bit with those of the uninterrupted run. ``compare_nccl``: DDP
and FSDP2 over a process group of one (NCCL takes no two processes on a GPU; on a CPU: gloo) beside
a process without any: the greatest relative difference of a step's loss, in fp32.

Prints one line of JSON: ``{"same": true, ...}`` or ``{"ddp": 0.0, "fsdp": 0.0}``.
"""

import json
import shutil
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
from lm.models.neural_lm import WEIGHTS
from lm.train import loop
from lm.train.job import TrainJob
from lm.train.loop import train
from lm.train.worker import set_deterministic
from tests.servers import free_port
from tests.train_entry import train_config

VOCABULARY, SEED = 2048, 1337


def config(device: str, steps: int, **changes: Any) -> TrainConfig:
    """Return a model of three million parameters with dropout and averaged weights."""
    given: dict[str, Any] = {
        "name": "exact", "num_layers": 4, "hidden_size": 192, "num_heads": 3, "context_length": 128, "global_batch_size": 16,
        "train_tokens": steps * 16 * 128, "num_processes": 1, "threads_per_process": 2, "device": device, "max_restarts": 0,
        "lr": 0.001, "warmup_fraction": 0.2,
        "log_interval": 1, "checkpoint_interval": 1 << 30, "validation_interval": 1 << 30,
    }  # fmt: skip
    return train_config(**given | changes)


def check_resume(folder: Path, device: str, steps: int, *, compiled: bool) -> dict[str, Any]:
    """Train, and train again from the checkpoint in the middle; compare weights and losses."""
    tokens = shards(draw_ids(VOCABULARY), VOCABULARY, folder / "store")
    half = steps // 2
    settings = config(
        device, steps, deterministic=True, dropout=0.1, ema_decay=0.99, compile=compiled,
        checkpoint_interval=half, keep_last=3,
    )  # fmt: skip
    uninterrupted, resumed = folder / "uninterrupted", folder / "resumed"
    for at in (uninterrupted, resumed):
        if at is resumed:
            kept = Path("checkpoints", checkpoint_name(half))
            shutil.copytree(uninterrupted / kept, resumed / kept)
        key = {"tokens": tokens.content}
        launch(TrainJob(settings, SEED, tokens.storage, at, key), lambda _: None)
    starts = [attempt["step"] for attempt in read_jsonl(resumed / ATTEMPTS)]
    return {
        "same": (uninterrupted / WEIGHTS).read_bytes() == (resumed / WEIGHTS).read_bytes(),
        # The checkpoint restored the log of the first half.
        "same_losses": read_losses(uninterrupted) == read_losses(resumed),
        "resumed_at": starts[-1],
        "resumed": starts == [0, half],
    }


def read_losses(folder: Path) -> list[float]:
    """Return the loss of each step."""
    return [line["loss"] for line in read_jsonl(folder / "metrics.jsonl")]


def compare_nccl(folder: Path, device: str, steps: int) -> dict[str, float]:
    """Return the maximum relative difference of a loss by kind of parallelism."""
    set_deterministic()
    tokens = shards(draw_ids(VOCABULARY), VOCABULARY, folder / "store")
    alone = train_losses(tokens, folder / "alone", config(device, steps, precision="fp32"))
    meeting = f"tcp://127.0.0.1:{free_port()}"
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
    """Train in this process; return the loss of each step."""
    train(TrainJob(settings, SEED, tokens.storage, folder))
    return read_losses(folder)


def main() -> None:
    """Run the check that is named on the command line."""
    what, device, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with tempfile.TemporaryDirectory() as name:
        if what == "nccl":
            result: dict[str, Any] = compare_nccl(Path(name), device, steps)
        else:
            result = check_resume(Path(name), device, steps, compiled=what == "resume-compiled")
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
