"""How long a checkpoint stops the training.

Two measurements for a model of 10.7 M parameters (6 blocks, width 384), one process, fp32, AdamW (weights
and two moments: 129 MB): the stall of a save, as a fraction of a median step; and how long the same
state takes when it is written while training waits.

    python benchmarks/bench_train_stall.py
"""

import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from infra.store.storage import Storage
from lm.checkpoint.manager import CheckpointManager
from lm.checkpoint.marker import list_complete
from lm.metrics.logger import read_jsonl
from lm.train import loop
from lm.train.job import TrainJob
from lm.train.loop import train
from tests.lm.corpora import tiny, token_shards

STEPS, EVERY = 16, 4
SHAPE: dict[str, Any] = {
    "num_layers": 6, "hidden_size": 384, "num_heads": 6, "num_kv_heads": 6, "context_length": 128, "global_batch_size": 8,
    "train_tokens": STEPS * 8 * 128, "optimizer": "adamw", "lr": 0.001,
}  # fmt: skip


class BlockingCheckpointManager(CheckpointManager):
    """Writes checkpoints while training waits."""

    def save(self, *args: Any, **kwargs: Any) -> bool:
        """Save, and wait for it."""
        started = super().save(*args, **kwargs)
        self.wait()
        return started


def run(url: str, folder: Path) -> tuple[float, list[float]]:
    """Train; returns the median step without a save and the saves' stalls, in seconds."""
    job = TrainJob(tiny(**SHAPE, checkpoint_interval=EVERY), 1337, Storage(url), folder)
    train(job)
    lines = read_jsonl(folder / "metrics.jsonl")
    clocks = [line["clock"] for line in lines]
    steps = [
        after - before
        for number, (before, after) in enumerate(pairwise(clocks), 1)
        if number % EVERY
    ]
    return statistics.median(steps), [
        line["checkpoint_seconds"] for line in lines if "checkpoint_seconds" in line
    ]


def main() -> None:
    """Print the results."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        url = token_shards(root / "store", 400).storage.url
        step, stalls = run(url, root / "beside")
        loop.CheckpointManager = BlockingCheckpointManager  # type: ignore[attr-defined]
        _, waits = run(url, root / "waiting")
        last = list_complete(Storage(str(root / "waiting" / "checkpoints")))[-1]
        size = sum(file.bytes for file in last.files.values())
    stall, whole = statistics.median(stalls), statistics.median(waits)
    print(f"state {size / 1e6:.0f} MB, step {step * 1e3:.0f} ms")
    print(f"saving beside the training: stall {stall * 1e3:.0f} ms, {stall / step:.2f} of a step")
    print(f"saving while it waits:      stall {whole * 1e3:.0f} ms, {whole / step:.2f} of a step")
    assert max(stalls) <= step, "a save must not cost more than a step"


if __name__ == "__main__":
    main()
