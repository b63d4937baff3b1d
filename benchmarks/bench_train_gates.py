"""Quality gates: the loss that training must reach, compared with nanoGPT measured the same way.

    python -m benchmarks.bench_train_gates [--text FILE] [--nanogpt REPOSITORY] [--seeds 3]

nanoGPT's configuration for a CPU on tiny Shakespeare by characters (4 layers, width 128, 12 x 64
tokens, 2,000 iterations; its README gives 1.88 on random batches): mean loss over the whole
validation split, as means over seeds. Ours with its choices, ours in bf16, and ours with Muon and
the Llama architecture. Exits with 1 if ours with its choices, in fp32 or in bf16, is above nanoGPT's.

The other gates are tests: the untrained loss is ln V, one batch is learned by heart, ten golden
losses, resuming to the bit, parity with transformers (tests/train, tests/release).
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.train_peers import NotMeasured, Shape, Trainers
from benchmarks.train_text import TextUnavailableError

SHAPE = Shape(
    num_layers=4,
    hidden_size=128,
    num_heads=4,
    context_length=64,
    global_batch_size=12,
    iterations=2000,
)
WHOLE = {"validation_tokens": 1 << 20, "warmup_iterations": 100, "log_interval": 100}
CHOICES: dict[str, dict[str, Any]] = {
    "gristmill, nanoGPT's choices, fp32": {},
    "gristmill, nanoGPT's choices, bf16, compiled": {"precision": "bf16", "compile": True},
    "gristmill, llama and Muon, bf16": {
        "precision": "bf16",
        "architecture": "llama",
        "optimizer": "muon",
        "lr": 0.01,
        "min_lr_fraction": 0.0,
        "weight_decay_embeddings": False,
        "adam_betas": (0.9, 0.95),
    },
}


def main() -> None:
    """Print a row per trainer."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--text", type=Path, help="tiny Shakespeare; default: fetched")
    parser.add_argument("--nanogpt", help="where to clone it from; default: GitHub")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    try:
        trainers = Trainers(options.text, options.nanogpt)
        seeds = range(1337, 1337 + options.seeds)
        theirs = [trainers.nanogpt_loss(SHAPE, seed) for seed in seeds]
        show("nanoGPT, fp32", theirs)
        means = []
        for name, choice in CHOICES.items():
            given = {**WHOLE, **choice}
            ours = [
                trainers.ours(SHAPE, **given, seed=seed).metrics["validation_loss"]
                for seed in seeds
            ]
            show(name, ours)
            means.append(statistics.fmean(ours))
    except (TextUnavailableError, NotMeasured) as error:
        sys.exit(f"error: {error}")
    met = max(means[:2]) <= statistics.fmean(theirs)
    print(f"with nanoGPT's choices, fp32 and bf16, not above it: {'met' if met else 'MISSED'}")
    sys.exit(not met)


def show(name: str, losses: list[float]) -> None:
    """Print one line: the mean and each seed's loss."""
    each = " ".join(f"{loss:.4f}" for loss in losses)
    print(f"{name:48}{statistics.fmean(losses):8.4f} nats per character ({each})", flush=True)


if __name__ == "__main__":
    main()
