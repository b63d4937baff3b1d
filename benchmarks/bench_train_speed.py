"""Milliseconds of a training iteration: Gristmill, nanoGPT, Hugging Face's Trainer and Lightning.

    python -m benchmarks.bench_train_speed [--text FILE] [--nanogpt REPOSITORY] [--repeats N]

Tiny Shakespeare by characters, two threads of one process for all, the same torch. Runs take turns
and the table gives the median over all iterations of all runs of a row, and the least and greatest
median of a run. Nothing else should run meanwhile. Exits with 1 if a target is missed.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.train_peers import NotMeasured, Run, Shape, Trainers, with_iterations
from benchmarks.train_text import TextUnavailableError

SMALL = Shape(
    num_layers=4,
    hidden_size=128,
    num_heads=4,
    context_length=64,
    global_batch_size=12,
    iterations=200,
)
LARGE = Shape(
    num_layers=6,
    hidden_size=384,
    num_heads=6,
    context_length=256,
    global_batch_size=16,
    iterations=20,
)
Row = Callable[[], Run]


def table(title: str, tokens: int, rows: dict[str, Row], repeats: int) -> dict[str, float]:
    """Run all rows in turns; print and return the median milliseconds of those that ran."""
    print(f"\n{title}; {os.cpu_count()} cores, load {_load()}", flush=True)
    runs: dict[str, list[Run]] = {name: [] for name in rows}
    for _ in range(repeats):
        for name, row in rows.items():
            try:
                runs[name].append(row())
            except NotMeasured as reason:
                print(f"{name}: not measured: {reason}", flush=True)
    medians = {}
    for name, done in runs.items():
        if not done:
            continue
        median = statistics.median(ms for run in done for ms in run.ms)
        each = [run.median for run in done]
        compiled = statistics.median(run.metrics.get("compile_seconds", 0.0) for run in done)
        note = f"  compiled in {compiled:.0f} s" if compiled > 1 else ""
        print(
            f"{name:44}{median:9.1f} ms ({min(each):.1f} to {max(each):.1f})"
            f"{1e3 * tokens / median:10,.0f} tokens/s{note}",
            flush=True,
        )
        medians[name] = median
    return medians


def check_speedup(
    what: str, medians: dict[str, float], ours: str, peer: str, min_speedup: float
) -> bool:
    """Print how many times as fast as a peer Gristmill is, and whether that is enough."""
    if ours not in medians or peer not in medians:
        print(f"  {what}: not measured")
        return False
    ratio = medians[peer] / medians[ours]
    verdict = "met" if ratio >= min_speedup else "MISSED"
    print(f"  {what}: {ratio:.2f} times as fast, target {min_speedup:g}: {verdict}")
    return ratio >= min_speedup


def small(trainers: Trainers, repeats: int) -> list[bool]:
    """Measure nanoGPT's configuration for a CPU: 0.8 M parameters."""
    bf16 = {"precision": "bf16"}
    rows: dict[str, Row] = {
        "nanoGPT, fp32": lambda: trainers.nanogpt(SMALL),
        "gristmill, fp32": lambda: trainers.ours(SMALL),
        "nanoGPT, fp32, compiled": lambda: trainers.nanogpt(SMALL, compiled=True),
        "gristmill, fp32, compiled": lambda: trainers.ours(SMALL, compile=True),
        "gristmill, bf16": lambda: trainers.ours(SMALL, **bf16),
        "gristmill, bf16, compiled": lambda: trainers.ours(SMALL, **bf16, compile=True),
        "Hugging Face Trainer, fp32": lambda: trainers.huggingface(SMALL),
        "Lightning, fp32": lambda: trainers.lightning(SMALL),
    }
    found = table("0.8 M parameters, 12 x 64 tokens", SMALL.tokens, rows, repeats)
    return [
        check_speedup("fp32, both eager", found, "gristmill, fp32", "nanoGPT, fp32", 1.0),
        check_speedup(
            "fp32, both compiled",
            found,
            "gristmill, fp32, compiled",
            "nanoGPT, fp32, compiled",
            1.0,
        ),
        check_speedup(
            "best against nanoGPT", found, "gristmill, bf16, compiled", "nanoGPT, fp32", 2.0
        ),
        check_speedup("Hugging Face", found, "gristmill, fp32", "Hugging Face Trainer, fp32", 1.0),
        check_speedup("Lightning", found, "gristmill, fp32", "Lightning, fp32", 1.0),
    ]


def large(trainers: Trainers, repeats: int) -> list[bool]:
    """Measure the shape of nanoGPT's configuration for a GPU: 10.75 M parameters."""
    half = Shape(**{**vars(LARGE), "precision": "bf16"})
    long = with_iterations(LARGE, 40)
    rows: dict[str, Row] = {
        "nanoGPT, fp32": lambda: trainers.nanogpt(LARGE),
        "nanoGPT patched to bf16 autocast": lambda: trainers.nanogpt(half),
        "gristmill, bf16": lambda: trainers.ours(long, precision="bf16"),
        "gristmill, bf16, compiled": lambda: trainers.ours(long, precision="bf16", compile=True),
    }
    found = table("10.75 M parameters, 16 x 256 tokens", LARGE.tokens, rows, repeats)
    best = min(("gristmill, bf16", "gristmill, bf16, compiled"), key=lambda n: found.get(n, 1e9))
    return [
        check_speedup("nanoGPT as shipped", found, best, "nanoGPT, fp32", 2.5),
        check_speedup("nanoGPT in bf16", found, best, "nanoGPT patched to bf16 autocast", 1.3),
    ]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--text", type=Path, help="tiny Shakespeare; default: fetched")
    parser.add_argument("--nanogpt", help="where to clone it from; default: GitHub")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["small", "large"])
    options = parser.parse_args()
    try:
        trainers = Trainers(options.text, options.nanogpt)
    except (TextUnavailableError, NotMeasured) as error:
        sys.exit(f"error: {error}")
    met = []
    if options.only != "large":
        met += small(trainers, options.repeats)
    if options.only != "small":
        met += large(trainers, options.repeats)
    print(f"load at the end {_load()}")
    sys.exit(not all(met))


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


if __name__ == "__main__":
    main()
