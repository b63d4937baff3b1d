"""One Gristmill run over tiny Shakespeare in its own process, started by benchmarks.

    python -m benchmarks.train_ours TEXT '{"iterations": 200, "num_layers": 4, ...}'

The settings are those of an entry of a recipe's ``train`` list without its sections, besides ``iterations``, ``seed`` and
``scratch``, a folder for tokens and checkpoints.
With ``-`` for the text ids are drawn, from as many as the setting ``vocabulary`` says.
Prints one line of JSON: ``ms`` per iteration between lines of the log, ``memory_bytes``, ``loss``
and, if configured, ``validation_loss`` and ``best_validation_loss`` (with ``early_stopping_patience``).
"""

import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.train_text import Ids, draw_ids, encode_text, shakespeare, shards
from lm.metrics.logger import read_jsonl
from lm.train.job import TrainJob
from lm.train.loop import train
from lm.train.worker import tune_malloc
from tests.train_entry import train_config

NANOGPT: dict[str, Any] = {
    "name": "ours",
    "architecture": "gpt2",
    "optimizer": "adamw",
    "lr": 1e-3,
    "min_lr_fraction": 0.1,
    "weight_decay": 0.1,
    "weight_decay_embeddings": True,
    "adam_betas": (0.9, 0.99),
    "max_grad_norm": 1.0,
    "precision": "fp32",
    "num_processes": 1,
    "threads_per_process": 2,
    "device": "cpu",
    "validation_tokens": 0,
    "validation_interval": 1 << 30,
    "checkpoint_interval": 1 << 30,
}


REPORTED_METRICS = ("memory_bytes", "loss", "validation_loss", "best_validation_loss")


def run(ids: dict[str, Ids], vocabulary: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train; nanoGPT's choices are the default of everything but the shape."""
    iterations, seed = settings.pop("iterations"), settings.pop("seed", 1337)
    scratch = settings.pop("scratch", None)
    tokens = iterations * settings["global_batch_size"] * settings["context_length"]
    warmup = settings.pop("warmup_iterations", 0) / iterations
    config = train_config(
        **{**NANOGPT, "train_tokens": tokens, "warmup_fraction": warmup, **settings}
    )
    torch.set_num_threads(config.run.threads_per_process)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        tokens_at = shards(ids, vocabulary, Path(folder, "store"))
        job = TrainJob(config, seed, tokens_at.storage, Path(folder, "run"))
        _, line = train(job)
        lines = read_jsonl(job.folder / "metrics.jsonl")
    ms = [
        1e3 * (after["clock"] - before["clock"]) / (after["step"] - before["step"])
        for before, after in pairwise(lines)
    ]
    compile_seconds = lines[0].get("compile_seconds", 0.0)
    answer: dict[str, Any] = {"ms": ms, "compile_seconds": compile_seconds}
    return answer | {name: line[name] for name in REPORTED_METRICS if name in line}


if __name__ == "__main__":
    tune_malloc()
    given = json.loads(sys.argv[2])
    if sys.argv[1] == "-":
        count = given.pop("vocabulary")
        answer = run(draw_ids(count), count, given)
    else:
        characters, encoding = encode_text(shakespeare(Path(sys.argv[1])))
        answer = run(encoding, len(characters), given)
    sys.stdout.write(json.dumps(answer) + "\n")
