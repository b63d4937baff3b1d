"""All GPU measurements of training, in one call of less than ten minutes on one GPU.

    python -m benchmarks.train_gpu --nanogpt FOLDER --modded FOLDER --text FILE
        [--seconds N] [--only PART ...] [--smoke]

Every row runs in its own process, so that its memory is its own. Gristmill's is the training loop over
random tokens, compiled, bf16; its milliseconds are those between lines of its log. FLOPs are
6 N + 12 L d T per token for all; fractions are of the datasheet's 989 TFLOP/s and of a measured
8192 x 8192 product. Compile time is listed separately. Parts, the most important first:

targets  GPT-2's shapes of 124 M and 350 M parameters, context 1,024
peers    the 124 M shape in nanoGPT's bench.py, Hugging Face's Trainer, modded-nanogpt's track 3
gate     nanoGPT's 10.65 M configuration on tiny Shakespeare, over the whole validation split
exact    a resumed run in deterministic mode; DDP and FSDP2 over NCCL compared with one process
twin     Gristmill in the shape of modded-nanogpt's script: 6 heads of 128, Muon, 524,288 tokens a step
fits     the largest batch of each that the memory holds, by doubling

It needs torch, numpy, pydantic, fsspec, pyarrow, safetensors, tensorboard and psutil; what else is
missing (transformers, a clone) leaves its row "not measured". Exits with 1 if a target was measured
and missed. ``--smoke`` runs all parts with small shapes, also on a CPU.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from operator import le
from pathlib import Path
from typing import Any

import torch

from benchmarks import train_gpu_peers as peers
from benchmarks.train_gpu_peers import OutOfMemory, Run, Size
from benchmarks.train_gpu_report import Report
from benchmarks.train_peers import NotMeasured

SMALL = Size(num_layers=12, hidden_size=768, num_heads=12, context_length=1024, vocabulary=50_304)
MEDIUM = replace(SMALL, num_layers=24, hidden_size=1024, num_heads=16)
TWIN = replace(SMALL, num_heads=6)
CHAR = Size(num_layers=6, hidden_size=384, num_heads=6, context_length=256, vocabulary=65)
TINY = Size(num_layers=2, hidden_size=64, num_heads=2, context_length=64, vocabulary=512)
PARTS = ("targets", "peers", "gate", "exact", "twin", "fits")
MIN_SECONDS = 25.0  # below this nothing is started
PEER_TIMEOUT_S = 120.0  # per peer, so that one cannot use up the others' time
RESERVED_SECONDS = 170.0  # that peers leave to the gate and the exact runs, which have targets
# The folder of the runs' checkpoints, if it has so much free space.
SCRATCH, MIN_FREE_BYTES = Path("/dev/shm"), 24 << 30
# nanoGPT, config/train_shakespeare_char.py; early stopping, because nanoGPT keeps the best checkpoint.
GATE: dict[str, Any] = {
    "global_batch_size": 64, "micro_batch_size": 64, "iterations": 5000, "warmup_iterations": 100, "dropout": 0.2,
    "validation_tokens": 1 << 20, "validation_interval": 250, "log_interval": 50, "early_stopping_patience": 8,
}  # fmt: skip


@dataclass
class Session:
    """What has been asked for, and what has been found."""

    options: argparse.Namespace
    device: str
    report: Report
    start: float
    fits: dict[str, int] = field(default_factory=dict)

    def remaining_s(self, max_s: float | None = None, reserve_s: float = 0.0) -> float:
        """Seconds that the next run may take, if ``reserve_s`` stay for what follows.

        Raises ``NotMeasured`` if too few are left.
        """
        spent = time.perf_counter() - self.start
        left: float = self.options.seconds - spent - reserve_s
        if left < MIN_SECONDS:
            raise NotMeasured("no time left")
        return left if max_s is None else min(left, max_s)

    def ours(self, size: Size, batch: int, seconds: float, **settings: Any) -> Run:
        """Measure the training loop, bf16, compiled, with AdamW by default."""
        given = {
            **vars(size), "name": "gpu", "device": self.device, "precision": "bf16",
            "compile": not self.options.smoke, "global_batch_size": batch, "micro_batch_size": batch,
            "iterations": 60, "log_interval": 10, "lr": 6e-4, **settings,
        }  # fmt: skip
        if SCRATCH.is_dir() and shutil.disk_usage(SCRATCH).free > MIN_FREE_BYTES:
            given["scratch"] = str(SCRATCH)
        return peers.ours(given, seconds)

    def row(self, name: str, size: Size, batches: tuple[int, ...], measure: Any) -> Run | None:
        """Measure at the first batch that fits, and print; ``None`` if it was not measured."""
        for batch in batches:
            try:
                run: Run = measure(batch)
            except OutOfMemory:
                self.report.print_line(f"{name}: {batch} sequences do not fit")
            except NotMeasured as reason:
                self.report.print_line(f"{name}: not measured: {reason}")
                return None
            else:
                self.fits[name] = max(batch, self.fits.get(name, 0))
                self.report.row(name, size, batch, run)
                return run
        return None


def run_targets(s: Session) -> None:
    """The two shapes that have a target."""
    plans = [
        ("gristmill, 124 M", SMALL, 64, (64, 32), 0.40, "124 M: 40 % of the datasheet, aim 45 %"),
        ("gristmill, 350 M", MEDIUM, 64, (32, 16), 0.46, "350 M: 46 % of the datasheet"),
    ]
    for name, given, whole, passes, least, what in plans:
        size, batch = (TINY, 4) if s.options.smoke else (given, whole)
        parts = (2,) if s.options.smoke else passes

        def measure(most: int, size: Size = size, batch: int = batch) -> Run:
            short = {"iterations": 12, "log_interval": 2} if s.options.smoke else {}
            return s.ours(size, batch, s.remaining_s(200.0), micro_batch_size=most, **short)

        run = s.row(name, size, parts, measure)
        peak_fraction = s.report.peak_fraction(size, run) if run else None
        s.report.check_target(what, peak_fraction, partial(le, least), "{:.1%}")


def peer_runs(s: Session) -> dict[str, Callable[[int, float], Run]]:
    """The peers at the 124 M shape by name: batch and seconds in, a run out."""
    size, device = (TINY if s.options.smoke else SMALL), s.device
    count = 6 if s.options.smoke else peers.WARMUP_STEPS + peers.STEPS
    o = s.options
    return {
        "nanoGPT, bench.py": lambda b, t: peers.nanogpt(o.nanogpt, size, b, t),
        "Hugging Face Trainer": lambda b, t: peers.huggingface(
            size, b, t, device=device, iterations=count
        ),
        "modded-nanogpt, track 3": lambda b, t: peers.modded(o.modded, b, t),
    }


def run_peers(s: Session) -> None:
    """Measure peers at the batch size of Gristmill, or half of it if that does not fit."""
    size, batches = (TINY, (2,)) if s.options.smoke else (SMALL, (64, 32))
    keep = (
        RESERVED_SECONDS if {"gate", "exact"} & {*s.options.only} and not s.options.smoke else 0.0
    )
    for name, rival in peer_runs(s).items():
        shape = TWIN if name.startswith("modded") and not s.options.smoke else size

        def measure(batch: int, rival: Callable[[int, float], Run] = rival) -> Run:
            return rival(batch, s.remaining_s(PEER_TIMEOUT_S, keep))

        s.row(name, shape, batches, measure)


def run_gate(s: Session) -> None:
    """NanoGPT's configuration for a GPU, trained by Gristmill; the best validation counts."""
    what = "10.65 M on tiny Shakespeare: at most 1.48 nats over the whole split"
    settings = {**{k: v for k, v in vars(CHAR).items() if k != "vocabulary"}, **GATE}
    settings |= {"name": "gate", "device": s.device, "precision": "bf16", "compile": True}
    if s.options.smoke:
        settings |= {
            "num_layers": 1,
            "hidden_size": 32,
            "num_heads": 2,
            "context_length": 32,
            "global_batch_size": 4,
        }
        settings |= {
            "micro_batch_size": 4,
            "iterations": 20,
            "warmup_iterations": 2,
            "log_interval": 5,
        }
        settings |= {"validation_tokens": 512, "validation_interval": 10, "compile": False}
    if s.options.text is None and s.options.smoke:
        settings["vocabulary"] = CHAR.vocabulary
    try:
        if s.options.text is None and not s.options.smoke:
            raise NotMeasured("no text was given (--text)")
        run = peers.ours(settings, s.remaining_s(), s.options.text)
    except NotMeasured as reason:
        s.report.print_line(f"gate: not measured: {reason}")
        s.report.check_target(what, None, bool, "{}")
        return
    best = run.details["best_validation_loss"]
    s.report.print_line(f"gate: best {best:.4f}, last {run.details['validation_loss']:.4f}")
    size = Size(**{name: settings.get(name, value) for name, value in vars(CHAR).items()})
    s.report.row("gristmill, 10.65 M, dropout 0.2", size, settings["global_batch_size"], run)
    s.report.check_target(what, None if s.options.smoke else best, lambda v: v <= 1.48, "{:.4f}")


def run_exact(s: Session) -> None:
    """Compare a resumed run bit for bit, losses over NCCL, and a resumed compiled run."""
    steps = 6 if s.options.smoke else 40
    _check_resume(s, "resume", steps, "resumed in deterministic mode: equal to the bit")
    result = _run_exact_script(s, "nccl", steps + 10)
    for way in ("ddp", "fsdp"):
        difference = result[way] if result else None
        what = f"{way} over a group of one: losses within 1e-5"
        s.report.check_target(what, difference, lambda value: value <= 1e-5, "{:.1e}")
    if not s.options.smoke:
        _check_resume(s, "resume-compiled", steps, "the same, compiled")


def _check_resume(s: Session, mode: str, steps: int, what: str) -> None:
    result = _run_exact_script(s, mode, steps)
    names = ("same", "same_losses", "resumed")
    equal = float(all(result[name] for name in names)) if result else None
    s.report.check_target(what, equal, bool, "{:.0f}")


def _run_exact_script(s: Session, what: str, steps: int) -> dict[str, Any] | None:
    command = [sys.executable, "-m", "benchmarks.train_gpu_exact", what, s.device, str(steps)]
    try:
        result: dict[str, Any] = json.loads(
            peers.run_command(command, s.remaining_s()).splitlines()[-1]
        )
    except NotMeasured as reason:
        s.report.print_line(f"{what}: not measured: {reason}")
        return None
    s.report.print_line(f"{what}: {result}")
    return result


def run_twin(s: Session) -> None:
    """Measure modded-nanogpt's shape: the same heads, step, untied head and kind of optimizer."""
    size = TINY if s.options.smoke else TWIN
    batch, count, parts = (4, 6, (2,)) if s.options.smoke else (512, 12, (64, 32))
    settings = {"architecture": "llama", "tie_embeddings": False, "optimizer": "muon", "lr": 0.01}

    def measure(micro_batch_size: int) -> Run:
        short = {"iterations": count, "log_interval": 2, "micro_batch_size": micro_batch_size}
        return s.ours(size, batch, s.remaining_s(PEER_TIMEOUT_S), **settings, **short)

    s.row("gristmill, twin of modded", size, parts, measure)


def find_max_batches(s: Session) -> None:
    """Double each one's batch until it does not fit, in turns."""
    size = TINY if s.options.smoke else SMALL
    short = {"iterations": 4, "log_interval": 2}
    tries: dict[str, Callable[[int, float], Run]] = {
        "gristmill, 124 M": lambda b, t: s.ours(size, b, t, **short), **peer_runs(s)
    }  # fmt: skip
    going = {name: 2 * batch for name, batch in s.fits.items() if name in tries}
    for _ in range(1 if s.options.smoke else 3):
        for name in list(going):
            try:
                tries[name](going[name], s.remaining_s(PEER_TIMEOUT_S))
                s.fits[name] = going[name]
                going[name] *= 2
            except OutOfMemory:
                s.report.print_line(
                    f"{name}: {s.fits[name]} sequences fit, {going.pop(name)} do not"
                )
            except NotMeasured as reason:
                tried = going.pop(name)
                s.report.print_line(
                    f"{name}: {s.fits[name]} sequences fit; {tried} not tried: {reason}"
                )
    for name, batch in going.items():
        s.report.print_line(f"{name}: {batch // 2} sequences fit, more were not tried")


def main() -> None:
    """Run the parts until the time is used up."""
    start = time.perf_counter()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--nanogpt", type=Path, help="a clone of karpathy/nanoGPT")
    parser.add_argument("--modded", type=Path, help="a clone of KellerJordan/modded-nanogpt")
    parser.add_argument("--text", type=Path, help="tiny Shakespeare (karpathy/char-rnn)")
    parser.add_argument("--seconds", type=float, default=560.0, help="limit of all parts")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.smoke:
        sys.exit("error: torch finds no GPU; --smoke runs small shapes on the CPU")
    for name in ("nanogpt", "modded", "text"):
        if getattr(options, name) is not None:
            setattr(options, name, getattr(options, name).resolve())
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # every row compiles anew
        sys.exit(run_parts(options, start))


def run_parts(options: argparse.Namespace, start: float) -> int:
    """Run the parts; return the exit status."""
    command = [sys.executable, "-m", "benchmarks.train_gpu_report"]
    try:
        ceiling = json.loads(peers.run_command(command, 90.0).splitlines()[-1])
    except NotMeasured as reason:
        sys.exit(f"error: the device cannot be measured: {reason}")
    s = Session(options, ceiling["device"], Report(ceiling), start)
    doing = dict(
        zip(
            PARTS,
            (run_targets, run_peers, run_gate, run_exact, run_twin, find_max_batches),
            strict=True,
        )
    )
    for part in PARTS:
        if part in options.only:
            doing[part](s)
            s.report.print_line(f"-- {part} done after {time.perf_counter() - s.start:.0f} s")
    return s.report.end()


if __name__ == "__main__":
    main()
