"""A step of fine-tuning, beside transformers' Trainer and, with LoRA, beside peft of the same rank.

    python -m benchmarks.bench_finetune [--steps 40] [--rounds 3]

The same BERT with the same weights, head included, reads the same examples in the same order: texts of 8 to 64 tokens, of
which a token tells the label. AdamW at the same rate in each step, the same weights trained, no dropout, fp32, one thread. The
runs alternate; the environment of the peers is made the first time. Prints tokens per CPU second and per second of wall time
(on a busy machine only the first is to be relied on), the ratio of the medians, and how far the losses are apart. Exits with 1
if ours is not at least 1.2 times as fast, or a step's loss is another one. LoRA starts from the same random matrices.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.train_peers import peer_interpreter
from infra.store.storage import Storage
from lm.config.finetune import BASE_WEIGHTS, FinetuneConfig
from lm.data.example_loader import TRAIN_ROWS, VALIDATION_ROWS, ExampleLoader
from lm.metrics.logger import read_jsonl
from lm.models.heads.config import HeadConfig, describe
from lm.models.heads.hf import to_hf_model
from lm.models.registry import build_model
from lm.optim.optimizers import learning_rate
from lm.train.finetuning import Finetuning
from lm.train.job import TrainJob
from lm.train.loop import train
from lm.train.worker import tune_malloc
from tests.train_entry import train_config

ROOT = Path(__file__).parents[1]
LORA_FILE = "lora-a.safetensors"
PEERS = ("accelerate==1.15.0", "peft==0.21.2")
VOCABULARY, CONTEXT, BATCH, LABELS, EOS = 8192, 64, 32, ("a", "b", "c", "d"), 0
RANK, ALPHA, WARM, WARMUP = 8, 16.0, 5, 4
LR, LORA_LR = 5e-4, 5e-3  # with the first, LoRA learns nothing in so few steps
MIN_RATIO = 1.2
MAX_LOSS_GAP = 1e-3  # of any step's loss, relative


def make_rows(count: int) -> Any:
    """Return int64[n, 1 + CONTEXT]: the label, then the ids, padded by -1."""
    rng = np.random.default_rng(1)
    rows = np.full((count, 1 + CONTEXT), -1, np.int64)
    for row in rows:
        label, length = int(rng.integers(len(LABELS))), int(rng.integers(8, CONTEXT + 1))
        ids = rng.integers(100, VOCABULARY, length)
        ids[int(rng.integers(1, length - 1))] = 1 + label
        ids[0] = ids[-1] = EOS
        row[0], row[1 : 1 + length] = label, ids
    return rows


def make_job(folder: Path, base: Any, rows: Any, steps: int, *, lora: bool) -> TrainJob:
    """Write what a run reads into its folder."""
    folder.mkdir()
    np.save(folder / TRAIN_ROWS, rows)
    np.save(folder / VALIDATION_ROWS, rows[:0])
    weights = {name: weight.contiguous() for name, weight in base.saved_weights().items()}
    save_file(weights, folder / BASE_WEIGHTS)
    config = FinetuneConfig.model_validate(
        {
            "name": "ours",
            "task": "classification",
            "model": {"lora": {"rank": RANK, "alpha": ALPHA} if lora else None},
            "optim": {
                "optimizer": "adamw",  # as the peers
                "lr": LORA_LR if lora else LR,
                "dropout": 0.0,
                "weight_decay": 0.0,
                "warmup_fraction": WARMUP / steps,
                "epochs": 1,
                "batch_size": BATCH,
            },
            "run": {
                "num_processes": 1,
                "precision": "fp32",
                "device": "cpu",
                "log_interval": 1,
                "checkpoint_interval": 1 << 30,
            },
            "architecture": describe(base.config, HeadConfig("classification", EOS, LABELS)),
            "eos_id": EOS,
            "max_length": CONTEXT,
            "examples": len(rows),
            "starts_from_file": True,
        }
    )
    return TrainJob(config, 1, Storage(str(folder)), folder)


def ours(job: TrainJob) -> dict[str, Any]:
    """Train here; return seconds of CPU and wall time after the first steps, and the losses."""
    (job.folder / "metrics.jsonl").unlink(missing_ok=True)
    with redirect_stdout(io.StringIO()):  # the lines of the log
        train(job)
    lines = read_jsonl(job.folder / "metrics.jsonl")
    timed = lines[WARM:]
    return {
        "cpu_seconds": sum(line["cpu_seconds"] for line in timed),
        "seconds": timed[-1]["clock"] - lines[WARM - 1]["clock"],
        "losses": [line["loss"] for line in lines],
    }


def theirs(job: TrainJob, *, lora: bool) -> dict[str, Any]:
    """Train with the peer what is in a job's folder, at the job's rates."""
    settings = {
        "rank": RANK if lora else 0,
        "alpha": ALPHA,
        "lora_a": str(job.folder / LORA_FILE),
        "batch": BATCH,
        "warm": WARM,
        "rates": [learning_rate(step, job.config) for step in range(job.config.steps)],
    }
    script = ROOT / "benchmarks/peers/finetune_trainer.py"
    command = [
        str(peer_interpreter(PEERS)),
        str(script),
        str(job.folder / "model"),
        str(job.folder / "rows.npz"),
        json.dumps(settings),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(scratch: Path, steps: int, rounds: int, *, lora: bool) -> bool:
    """Print both and their ratios; return whether the targets are met."""
    rows = make_rows(steps * BATCH)
    torch.manual_seed(0)
    config = train_config(
        name="base", family="encoder", architecture="bert", num_layers=4, hidden_size=256, num_heads=4, context_length=CONTEXT, train_tokens=1,
    )  # fmt: skip
    base = build_model(config.model.resolve(VOCABULARY))
    folder = scratch / ("lora" if lora else "full")
    job = make_job(folder, base, rows, steps, lora=lora)
    if lora:
        torch.manual_seed(job.seed)
        state = Finetuning(job).build_model().state_dict()
        drawn = {name: weight for name, weight in state.items() if "lora_a" in name}
        save_file(drawn, folder / LORA_FILE)
    # The peer gets the model as it is before the first step, and the examples in our order.
    torch.manual_seed(job.seed)
    start = Finetuning(make_job(scratch / f"{folder.name}-start", base, rows, steps, lora=False))
    model: Any = start.build_model()
    to_hf_model(
        start_config(job), {name: weight.detach() for name, weight in model.saved_weights().items()}
    ).save_pretrained(folder / "model")
    loader = ExampleLoader(rows, job.seed, BATCH, 0, 1)
    ordered = np.concatenate([next(loader).rows for _ in range(steps)])
    np.savez(folder / "rows.npz", ids=ordered[:, 1:], labels=ordered[:, 0])
    results: dict[str, list[dict[str, Any]]] = {"gristmill": [], "peer": []}
    for number in range(rounds):
        results["peer"].append(theirs(job, lora=lora))
        own = make_job(scratch / f"{folder.name}-{number}", base, rows, steps, lora=lora)
        results["gristmill"].append(ours(own))
    tokens = int((ordered[WARM * BATCH :, 1:] >= 0).sum())
    title = f"LoRA of rank {RANK}" if lora else "all weights"
    print(f"{title}: {steps} steps of {BATCH} texts, {results['peer'][0]['versions']}")
    print(f"{'':10} {'tokens/CPU s':>12} {'tokens/s':>9} {'last losses':>11}")
    medians, last = {}, {}
    for name, runs in results.items():
        medians[name] = [
            statistics.median(run[key] for run in runs) for key in ("cpu_seconds", "seconds")
        ]
        last[name] = statistics.mean(runs[0]["losses"][-10:])
        cpu, wall = (tokens / value for value in medians[name])
        print(f"{name:10} {cpu:12,.0f} {wall:9,.0f} {last[name]:11.4f}")
    ratios = [
        theirs / ours for theirs, ours in zip(medians["peer"], medians["gristmill"], strict=True)
    ]
    pairs = list(zip(results["gristmill"][0]["losses"], results["peer"][0]["losses"], strict=True))
    largest = max(abs(a - b) / b for a, b in pairs)
    gap = abs(last["gristmill"] - last["peer"]) / last["peer"]
    print(
        f"ratio {ratios[0]:.2f} per CPU second, {ratios[1]:.2f} per second; first losses {pairs[0][0]:.4f} and {pairs[0][1]:.4f}"
    )
    print(f"largest difference of a step's loss {largest:.4%}, of the last ten {gap:.4%}\n")
    return bool(ratios[0] >= MIN_RATIO and largest <= MAX_LOSS_GAP)


def start_config(job: TrainJob) -> dict[str, Any]:
    """Return ``model_config`` of a job's model."""
    assert isinstance(job.config, FinetuneConfig)
    return job.config.architecture


def main() -> int:
    """Print both comparisons; return 1 if a target is missed."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    tune_malloc()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        done = [
            compare(Path(scratch), given.steps, given.rounds, lora=lora) for lora in (False, True)
        ]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
