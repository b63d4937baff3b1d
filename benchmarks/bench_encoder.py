"""Masked language models: BERT trained here, and by transformers' Trainer as their run_mlm.py does.

    python -m benchmarks.bench_encoder [--iterations 300] [--rounds 1] [--precision fp32|bf16]

The same rows of the Python standard library's source, cut into BPE tokens, the same sizes, batch, AdamW,
schedule and number of steps, on one thread, without dropout. transformers' environment is made the first time. Each chooses masks of its own (15 %, 80/10/10),
and both are scored on the same masked held-out rows. Rounds alternate between the two, with a seed each. Prints
tokens per CPU second and per second of wall time (on a busy machine only the first is to be relied on; medians
of the rounds) and the loss. Exits with 1 if ours has a higher loss, on the mean of the rounds, or less than 1.5 times
the tokens per CPU second.
"""

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.train_peers import HUGGINGFACE, peer_interpreter  # noqa: E402
from benchmarks.train_text import shards  # noqa: E402
from lm.metrics.logger import read_jsonl  # noqa: E402
from lm.models.registry import build_model  # noqa: E402
from lm.objectives.masked import MaskedTokens  # noqa: E402
from lm.train.job import TrainJob  # noqa: E402
from lm.train.loop import train  # noqa: E402
from lm.train.worker import tune_malloc  # noqa: E402
from tests.train_entry import train_config  # noqa: E402

VOCABULARY, CONTEXT, BATCH, HELD_ROWS, TEXT_BYTES = 8192, 128, 16, 128, 8 << 20
WARM_STEPS = 5
MIN_SPEED_RATIO = 1.5
SETTINGS: dict[str, Any] = {
    "hidden_size": 256,
    "num_layers": 4,
    "num_heads": 4,
    "global_batch_size": BATCH,
    "weight_decay": 0.01,
    "lr": 1e-3,
}


def encode() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the tokens of the standard library's modules, in the order of their names."""
    folder, texts, size = Path(sysconfig.get_paths()["stdlib"]), list[str](), 0
    for path in sorted(folder.glob("*.py")) + sorted(folder.glob("*/*.py")):
        if "site-packages" not in path.parts and size < TEXT_BYTES:
            texts.append(path.read_text(encoding="utf-8", errors="ignore"))
            size += len(texts[-1])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return np.concatenate([[*encoded.ids, 0] for encoded in tokenizer.encode_batch(texts)])


def ours(ids: Any, held: Any, iterations: int, precision: str, seed: int) -> dict[str, float]:
    """Train here; return seconds of CPU and wall time after the first steps, and the held-out loss."""
    tokens = BATCH * CONTEXT
    config = train_config(
        **{**SETTINGS, "name": "ours", "family": "encoder", "architecture": "bert"},
        context_length=CONTEXT,
        train_tokens=iterations * tokens,
        optimizer="adamw",
        adam_betas=(0.9, 0.99),
        min_lr_fraction=0.0,
        schedule="cosine",
        warmup_fraction=10 / iterations,
        weight_decay_embeddings=True,
        max_grad_norm=1.0,
        precision=precision,
        num_processes=1,
        device="cpu",
        validation_tokens=0,
        log_interval=WARM_STEPS,
        checkpoint_interval=1 << 30,
    )
    with tempfile.TemporaryDirectory() as folder:
        store = shards(
            {"train": ids, "validation": ids[:CONTEXT]}, VOCABULARY, Path(folder, "store")
        )
        job = TrainJob(config, seed, store.storage, Path(folder, "run"))
        with redirect_stdout(sys.stderr):  # the lines of the log
            weights, _ = train(job)
        first, *rest = read_jsonl(job.folder / "metrics.jsonl")
    cpu, seconds = sum(line["cpu_seconds"] for line in rest), rest[-1]["clock"] - first["clock"]
    model = build_model(config.model.resolve(VOCABULARY))
    model.load_state_dict(weights)
    with torch.no_grad():
        nats = sum(
            float(model(part.inputs, part.targets, **part.extra_inputs()))
            for part in held.split(32)
        )
    return {"cpu_seconds": cpu, "seconds": seconds, "loss": nats / held.targets.numel()}


def main() -> int:
    """Print both and their ratios; return 1 if a target is missed."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--iterations", type=int, default=300)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    given = options.parse_args()
    tune_malloc()
    torch.set_num_threads(1)
    ids = encode()
    count = len(ids) // CONTEXT
    rows = ids[: count * CONTEXT].reshape(count, CONTEXT)
    is_held = np.arange(count) % (count // HELD_ROWS) == 0
    kept, held_rows = rows[~is_held], rows[is_held][:HELD_ROWS]
    held = MaskedTokens(7, VOCABULARY, 0, 0.15)(
        np.pad(held_rows, ((0, 0), (1, 0))), np.arange(len(held_rows))
    )
    assert held.positions is not None
    results: dict[str, list[dict[str, float]]] = {"transformers": [], "gristmill": []}
    stream = kept.flatten().astype(np.uint16)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "rows.npy", kept)
        np.savez(
            folder / "held.npz",
            inputs=held.inputs.numpy(),
            targets=held.targets.numpy(),
            positions=held.positions.numpy(),
        )
        for seed in range(1, given.rounds + 1):
            theirs = run_peer(folder, given.iterations, given.precision, seed)
            results["transformers"].append(theirs)
            results["gristmill"].append(ours(stream, held, given.iterations, given.precision, seed))
    trained = BATCH * CONTEXT * (given.iterations - WARM_STEPS)
    print(f"{given.iterations} steps of {BATCH} x {CONTEXT} tokens, {given.precision}, one thread")
    print(f"{'':14} {'tokens/CPU s':>12} {'tokens/s':>9} {'held-out loss':>13}")
    speeds, losses = {}, {}
    for name, rounds in results.items():
        cpu, wall = (
            statistics.median(trained / each[key] for each in rounds)
            for key in ("cpu_seconds", "seconds")
        )
        speeds[name], losses[name] = cpu, statistics.fmean(each["loss"] for each in rounds)
        each_loss = " ".join(f"{each['loss']:.3f}" for each in rounds)
        print(f"{name:14} {cpu:12,.0f} {wall:9,.0f} {losses[name]:13.3f}  ({each_loss})")
    speed = speeds["gristmill"] / speeds["transformers"]
    loss = losses["gristmill"] / losses["transformers"]
    print(f"ratio {speed:.2f} in tokens per CPU second, {loss:.3f} in loss")
    return 0 if speed >= MIN_SPEED_RATIO and loss <= 1 else 1


def run_peer(folder: Path, iterations: int, precision: str, seed: int) -> dict[str, float]:
    """Train with transformers, on the files of a folder; returns what ``ours`` does."""
    settings = {
        **SETTINGS, "vocab_size": VOCABULARY, "iterations": iterations, "warm": WARM_STEPS, "warmup": 10,
        "adam_beta2": 0.99, "precision": precision, "seed": seed,
    }  # fmt: skip
    script = str(ROOT / "benchmarks/peers/train_run_mlm.py")
    files = [str(folder / "rows.npy"), str(folder / "held.npz")]
    command = [str(peer_interpreter(HUGGINGFACE)), script, *files, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.exit(main())
