"""Model families beside their peers: our LSTM and pytorch/examples' word language model.

    python -m benchmarks.bench_families [--only speeds|peers] [--text FILE] [--examples REPOSITORY] [--epochs 2] [--rounds 4]
        [--lines N]

First the speed of the families that predict the next token: tokens per CPU second of forward and backward
passes on one thread, with a vocabulary of 4,096, a tied head and 16 x 128 tokens (the median of five).
There is no maintained program of gated convolutional language models, so ``cnn`` has no peer; the other
families have benchmarks of their own.

Then the peer. Tiny Shakespeare by lower-cased words, of which those that occur less than three times are ``<unk>``.
Both train two layers of width 200 with a tied head, dropout 0.2, 20 x 35 tokens per step, the state carried from
step to step, torch's AdamW at a constant rate, gradients clipped to 0.25, in fp32 on one thread, for the same number
of tokens. The perplexity is that of the held-out test text, read as the peer reads it: state carried, 10 columns.
Rounds alternate between the two, with a seed each; speeds are medians of all lines of the log, whose clock is the
CPU time of the process.
Exits with 1 if ours is slower, or its mean perplexity higher by more than two standard errors of the difference, or by
2 %: one seed says little, since the peer's own seeds are several percent apart.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.train_text import (  # noqa: E402
    Ids,
    TextUnavailableError,
    bench_root,
    shakespeare,
    shards,
)
from infra.formats.megatron import TRAIN, VALIDATION  # noqa: E402
from lm.config.train import TrainConfig  # noqa: E402
from lm.models.registry import build_model, parse_entry  # noqa: E402

EXAMPLES = "https://github.com/pytorch/examples"
COMMIT = "77f55b912142e11fcfdf5b530231fb9c52f181e8"
SPLITS = ("train", "valid", "test")  # 80, 10 and 10 % of the lines
MIN_WORD_COUNT = 3
LAYERS, WIDTH, BATCH, BPTT, TEST_BATCH = 2, 200, 20, 35, 10
LR, CLIP, DROPOUT = 0.002, 0.25, 0.2
# torch's defaults, which the peer uses, at a constant rate.
TORCH_ADAMW: dict[str, Any] = {
    "optimizer": "adamw", "lr": LR, "adam_betas": (0.9, 0.999), "weight_decay": 0.01,
    "weight_decay_embeddings": True, "warmup_fraction": 0, "min_lr_fraction": 1,
}  # fmt: skip
LOG_INTERVAL = 20
MAX_NOISE = 0.02  # of the peer's perplexity: seeds that differ more excuse no more than this
OURS = ("-m", "benchmarks.bench_families", "--ours")
# Runs a script whose clock is the CPU time of its process.
CPU_CLOCK = "import runpy, sys, time; time.time = time.process_time; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"


def main() -> None:
    """Print a row per trainer, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", choices=("speeds", "peers"))
    parser.add_argument("--text", type=Path, help="tiny Shakespeare; default: fetched")
    parser.add_argument("--examples", default=EXAMPLES, help="where to clone the peer from")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4, help="seeds; at least 2 (default: 4)")
    parser.add_argument("--lines", type=int, help="use the first lines of the text only")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2, since the seeds' spread is measured")
    if options.ours:
        print(json.dumps(train_ours(**json.loads(options.ours))))
        return
    if options.only != "peers":
        measure_families()
    if options.only == "speeds":
        return
    try:
        peer = clone(options.examples)
        text = "\n".join(shakespeare(options.text).splitlines()[: options.lines])
    except (TextUnavailableError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    with tempfile.TemporaryDirectory() as scratch:
        words = write_words(text, Path(scratch))
        print(f"{words:,} words of training text, {options.epochs} epochs")
        speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
        perplexities: dict[str, list[float]] = {"ours": [], "theirs": []}
        for seed in range(1, options.rounds + 1):
            given = {"folder": scratch, "epochs": options.epochs, "seed": seed}
            for name, measure in (
                ("theirs", partial(run_peer, peer, **given)),
                ("ours", partial(run, [*OURS, json.dumps(given)])),
            ):
                result = json.loads(measure().splitlines()[-1])
                speeds[name] += result["tokens_per_second"]
                perplexities[name].append(result["perplexity"])
    titles = {"theirs": "pytorch/examples word_language_model", "ours": "gristmill, family lstm"}
    for name, title in titles.items():
        each = " ".join(f"{value:.1f}" for value in perplexities[name])
        print(
            f"{title:38}{statistics.median(speeds[name]):8,.0f} tokens/CPU s"
            f"{statistics.fmean(perplexities[name]):9.1f} test perplexity ({each})"
        )
    speed = statistics.median(speeds["ours"]) / statistics.median(speeds["theirs"])
    ours, theirs = (statistics.fmean(perplexities[name]) for name in ("ours", "theirs"))
    # Two standard errors of the difference of the means over the seeds.
    noise = 2 * math.sqrt(
        sum(statistics.variance(values) / len(values) for values in perplexities.values())
    )
    met = speed >= 1 and ours <= theirs + min(noise, MAX_NOISE * theirs)
    print(
        f"tokens/CPU s {speed:.2f}x, perplexity {ours / theirs:.3f}x (noise of the seeds "
        f"{noise / theirs:.3f}): {'met' if met else 'MISSED'}"
    )
    sys.exit(not met)


FAMILIES: dict[str, dict[str, Any]] = {
    "decoder": {"num_layers": 4, "num_heads": 4},
    "rnn": {"num_layers": 2},
    "lstm": {"num_layers": 2},
    "gru": {"num_layers": 2},
    "cnn": {"num_layers": 4},
}


def measure_families() -> None:
    """Print a row per family: parameters, FLOPs per token, tokens per CPU second in fp32 and bf16."""
    torch.set_num_threads(1)
    tokens = torch.randint(0, 4096, (16, 129), generator=torch.Generator().manual_seed(0))
    print(
        f"{'family':10}{'parameters':>12}{'FLOPs/token':>14}{'fp32':>10}{'bf16':>10}  tokens/CPU s"
    )
    for family, sizes in FAMILIES.items():
        section = {"hidden_size": 256, "context_length": 128, **sizes}
        entry = parse_entry(
            {"name": "x", "family": family, "model": section, "data": {"train_tokens": 1}}
        )
        assert isinstance(entry, TrainConfig)
        model = build_model(entry.model.resolve(4096))
        speeds = []
        for dtype in (torch.float32, torch.bfloat16):
            seconds = []
            for _ in range(6):  # the first warms up
                start = time.process_time()
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    loss = model(tokens[:, :-1], tokens[:, 1:])
                loss.backward()
                model.zero_grad()
                seconds.append(time.process_time() - start)
            speeds.append(tokens[:, 1:].numel() / statistics.median(seconds[1:]))
        count = sum(parameter.numel() for parameter in model.parameters())
        print(
            f"{family:10}{count:12,}{model.flops_per_token():14,.0f}{speeds[0]:10,.0f}{speeds[1]:10,.0f}",
            flush=True,
        )


def clone(source: str) -> Path:
    """Clone the peer at the pinned commit, without its text; return its folder."""
    target = bench_root() / "examples"
    git = ["git", "-c", "advice.detachedHead=false"]
    if not (target / ".git").exists():
        subprocess.run([*git, "clone", "--quiet", "--no-checkout", source, target], check=True)
    files = [f"word_language_model/{name}.py" for name in ("main", "model", "data")]
    subprocess.run([*git, "checkout", "--quiet", COMMIT, "--", *files], cwd=target, check=True)
    return target / "word_language_model"


def write_words(text: str, folder: Path) -> int:
    """Write the splits as files of words, as the peer reads them; return the number for training."""
    lines = [re.findall(r"[a-z']+|[^\sa-z]", line.lower()) for line in text.splitlines() if line]
    counts = Counter(word for line in lines for word in line)
    kept = [
        " ".join(word if counts[word] >= MIN_WORD_COUNT else "<unk>" for word in line)
        for line in lines
    ]
    first, second = int(len(kept) * 0.8), int(len(kept) * 0.9)
    parts = dict(zip(SPLITS, (kept[:first], kept[first:second], kept[second:]), strict=True))
    for split, part in parts.items():
        (folder / f"{split}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")
    return sum(len(line.split()) + 1 for line in parts["train"])


def read_ids(folder: Path) -> tuple[dict[str, Ids], int]:
    """Return the ids of the splits and the vocabulary's size, numbered as the peer numbers words."""
    numbers: dict[str, int] = {}
    ids = {}
    for split in SPLITS:
        words = [
            word
            for line in (folder / f"{split}.txt").read_text(encoding="utf-8").splitlines()
            for word in [*line.split(), "<eos>"]
        ]
        ids[split] = np.array([numbers.setdefault(w, len(numbers)) for w in words], np.uint16)
    return ids, len(numbers)


def run(arguments: list[str], cwd: Path = ROOT) -> str:
    """Return the output of a script in a process of its own with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def run_peer(peer: Path, folder: str, epochs: int, seed: int) -> str:
    """Run its ``main.py`` as its README does; return a line of JSON."""
    settings: dict[str, Any] = {
        "model": "LSTM", "emsize": WIDTH, "nhid": WIDTH, "nlayers": LAYERS, "lr": LR, "clip": CLIP,
        "epochs": epochs, "batch_size": BATCH, "bptt": BPTT, "dropout": DROPOUT, "seed": seed,
        "data": folder, "save": f"{folder}/model.pt", "log-interval": LOG_INTERVAL,
    }  # fmt: skip
    switches = [f"--{name}={value}" for name, value in settings.items()]
    output = run(["-c", CPU_CLOCK, "main.py", "--tied", "--use-optimizer", *switches], peer)
    ms = [float(value) for value in re.findall(r"ms/batch +([0-9.]+)", output)]
    (loss,) = re.findall(r"test loss +([0-9.]+)", output)
    (perplexity,) = re.findall(r"test ppl +([0-9.]+)", output)
    assert abs(math.log(float(perplexity)) - float(loss)) < 0.01
    # The first line of an epoch counts a batch more than it divides by.
    speeds = [1e3 * BATCH * BPTT / value for value in ms[1:]]
    return json.dumps({"tokens_per_second": speeds, "perplexity": float(perplexity)})


def train_ours(folder: str, epochs: int, seed: int) -> dict[str, Any]:
    """Train an entry of the recipe's ``train`` list on the same ids."""
    from lm.metrics.logger import read_jsonl
    from lm.train.job import TrainJob
    from lm.train.loop import train
    from lm.train.worker import tune_malloc
    from tests.train_entry import train_config

    tune_malloc()
    torch.set_num_threads(1)
    ids, vocabulary = read_ids(Path(folder))
    config = train_config(
        name="lstm", family="lstm", num_layers=LAYERS, hidden_size=WIDTH, context_length=BPTT,
        global_batch_size=BATCH, train_tokens=epochs * len(ids["train"]), validation_tokens=0,
        carry_state=True, dropout=DROPOUT, max_grad_norm=CLIP, **TORCH_ADAMW, precision="fp32", device="cpu",
        num_processes=1, log_interval=LOG_INTERVAL, checkpoint_interval=1 << 30,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        splits = {TRAIN: ids["train"], VALIDATION: ids["valid"]}
        tokens = shards(splits, vocabulary, Path(work, "store"))
        job = TrainJob(config, seed, tokens.storage, Path(work, "run"))
        weights, _ = train(job)
        lines = read_jsonl(job.folder / "metrics.jsonl")
    speeds = [
        (after["tokens"] - before["tokens"]) / after["cpu_seconds"]
        for before, after in pairwise(lines)
    ]
    return {
        "tokens_per_second": speeds,
        "perplexity": math.exp(
            carried_loss(weights, torch.from_numpy(ids["test"].astype(np.int64)))
        ),
    }


@torch.no_grad()
def carried_loss(weights: dict[str, Tensor], ids: Tensor) -> float:
    """Return nats per word as the peer's ``evaluate`` does: the state is carried down each column."""
    lstm = nn.LSTM(WIDTH, WIDTH, LAYERS)
    for name, weight in weights.items():
        if name.startswith("blocks."):
            _, layer, parameter = name.split(".")
            lstm.get_parameter(f"{parameter}_l{layer}").copy_(weight)
    embedding, bias = weights["embed.weight"], weights["head.bias"]
    columns = ids[: len(ids) // TEST_BATCH * TEST_BATCH].view(TEST_BATCH, -1).t()
    total, state = 0.0, None
    for start in range(0, len(columns) - 1, BPTT):
        targets = columns[start + 1 : start + 1 + BPTT]
        hidden, state = lstm(embedding[columns[start : start + len(targets)]], state)
        logits = (hidden @ embedding.T + bias).flatten(0, 1)
        total += float(F.cross_entropy(logits, targets.flatten(), reduction="sum"))
    return total / ((len(columns) - 1) * TEST_BATCH)


if __name__ == "__main__":
    main()
