"""Other trainers and Gristmill over the same ids, each run in its own process.

nanoGPT is cloned into the benchmarks' cache and run as it is: by its own ``train.py`` and its own
command line. Hugging Face's Trainer and Lightning get environments that see this one's packages, so
that torch is the same, and add what they need. What cannot be had is not measured, with the reason.
"""

import json
import os
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.train_text import bench_root, encode_text, shakespeare
from infra.formats.megatron import TRAIN, VALIDATION

NANOGPT = "https://github.com/karpathy/nanoGPT"
COMMIT = "3adf61e154c3fe3fca428ad6bc3818b27a3b8291"
SCRIPTS = Path(__file__).parent / "peers"
HUGGINGFACE, LIGHTNING = ("accelerate==1.15.0",), ("lightning==2.6.6",)
WARMUP_ITERATIONS = 10  # first iterations that are not counted
MAX_ERROR_CHARS = 400  # of an error that is shown


class NotMeasured(Exception):
    """A trainer was not measured; the message says why."""


@dataclass(frozen=True)
class Shape:
    """The settings that all trainers share."""

    num_layers: int
    hidden_size: int
    num_heads: int
    context_length: int
    global_batch_size: int
    iterations: int
    threads_per_process: int = 2
    precision: str = "fp32"

    @property
    def tokens(self) -> int:
        """Per iteration."""
        return self.global_batch_size * self.context_length


@dataclass(frozen=True)
class Run:
    """One run: milliseconds of its iterations, the without the first ones; other metrics by name."""

    ms: tuple[float, ...]
    metrics: dict[str, Any]

    @property
    def median(self) -> float:
        """Milliseconds."""
        return statistics.median(self.ms)


class Trainers:
    """What can be run over the text."""

    def __init__(self, text: Path | None = None, nanogpt: str | None = None) -> None:
        """Prepare text and repository.

        Args:
            text: tiny Shakespeare; default: fetched.
            nanogpt: where to clone nanoGPT from; default: GitHub.
        """
        corpus = shakespeare(text)
        self.text = bench_root() / "shakespeare.txt"
        self.repository = clone(nanogpt or NANOGPT, bench_root() / "nanoGPT")
        characters, ids = encode_text(corpus)
        data = self.repository / "data" / "shakespeare_char"
        for split, name in ((TRAIN, "train"), (VALIDATION, "val")):
            ids[split].tofile(data / f"{name}.bin")
        meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters))}
        meta["stoi"] = {character: place for place, character in enumerate(characters)}
        (data / "meta.pkl").write_bytes(pickle.dumps(meta))
        self.train, self.held_out = data / "train.bin", data / "val.bin"
        # The one line that prevents bf16 on a CPU in nanoGPT.
        script = (self.repository / "train.py").read_text()
        patched = script.replace("nullcontext() if device_type == 'cpu' else ", "")
        if patched == script:
            raise NotMeasured("nanoGPT's train.py is not the expected version")
        (self.repository / "train_bf16.py").write_text(patched)

    def ours(self, shape: Shape, **settings: Any) -> Run:
        """Train Gristmill with nanoGPT's choices, except for ``settings`` of an entry of a recipe's list."""
        given = {
            "num_layers": shape.num_layers,
            "hidden_size": shape.hidden_size,
            "num_heads": shape.num_heads,
            "context_length": shape.context_length,
            "global_batch_size": shape.global_batch_size,
            "iterations": shape.iterations,
            "threads_per_process": shape.threads_per_process,
            "precision": shape.precision,
            "log_interval": 10
            if shape.iterations >= 100
            else 2,  # nanoGPT's and Gristmill's default: 10
            **settings,
        }
        answer = run_json(
            [sys.executable, "-m", "benchmarks.train_ours", str(self.text), json.dumps(given)],
            shape.threads_per_process,
        )
        lines = answer.pop("ms")
        return Run(tuple(lines[-(-WARMUP_ITERATIONS // given["log_interval"]) :]), answer)

    def nanogpt(self, shape: Shape, *, compiled: bool = False) -> Run:
        """Its ``train.py`` as its README runs it on a CPU, without evaluations between."""
        script = "train.py" if shape.precision == "fp32" else "train_bf16.py"
        lines = self._nanogpt(script, shape, compiled=compiled, save=False, seed=1337)
        ms = [float(found) for found in re.findall(r"time ([0-9.]+)ms", lines)]
        return Run(tuple(ms[WARMUP_ITERATIONS + 1 : -1]), {})

    def nanogpt_loss(self, shape: Shape, seed: int) -> float:
        """Nats per character over the whole validation split after training with a seed."""
        self._nanogpt("train.py", shape, compiled=False, save=True, seed=seed)
        checkpoint = self.repository / "out-bench" / "ckpt.pt"
        score = SCRIPTS / "train_nanogpt_score.py"
        output = _run(
            [sys.executable, str(score), *map(str, (self.repository, checkpoint, self.held_out))],
            shape.threads_per_process,
        )
        return float(output.splitlines()[-1])  # the model prints its size first

    def _nanogpt(self, script: str, shape: Shape, *, compiled: bool, save: bool, seed: int) -> str:
        # Its seed is a constant of the script; everything else has a switch.
        source = (self.repository / script).read_text()
        seeded = source.replace("torch.manual_seed(1337 +", f"torch.manual_seed({seed} +")
        (self.repository / "train_bench.py").write_text(seeded)
        options = {
            "device": "cpu", "compile": compiled, "eval_iters": 1, "log_interval": 1,
            "dtype": {"fp32": "float32", "bf16": "bfloat16"}[shape.precision],
            "block_size": shape.context_length, "batch_size": shape.global_batch_size, "n_layer": shape.num_layers,
            "n_head": shape.num_heads, "n_embd": shape.hidden_size, "max_iters": shape.iterations,
            "lr_decay_iters": shape.iterations, "dropout": 0.0, "out_dir": "out-bench",
            "eval_interval": shape.iterations if save else 1 << 30, "always_save_checkpoint": save,
        }  # fmt: skip
        switches = [f"--{name}={value}" for name, value in options.items()]
        command = [sys.executable, "train_bench.py", "config/train_shakespeare_char.py", *switches]
        return _run(command, shape.threads_per_process, self.repository)

    def huggingface(self, shape: Shape) -> Run:
        """Hugging Face's Trainer on its GPT-2."""
        return self._peer("train_huggingface.py", HUGGINGFACE, shape)

    def lightning(self, shape: Shape) -> Run:
        """Lightning's Trainer around nanoGPT's model."""
        return self._peer("train_lightning.py", LIGHTNING, shape, str(self.repository))

    def _peer(self, script: str, packages: Sequence[str], shape: Shape, *more: str) -> Run:
        command = [str(peer_interpreter(packages)), str(SCRIPTS / script), str(self.train)]
        answer = run_json([*command, json.dumps(vars(shape)), *more], shape.threads_per_process)
        return Run(tuple(answer.pop("ms")[WARMUP_ITERATIONS:]), answer)


def with_iterations(shape: Shape, iterations: int) -> Shape:
    """The same with fewer iterations."""
    return replace(shape, iterations=iterations)


def clone(source: str, target: Path) -> Path:
    """Clone the repository at the pinned commit. Raises ``NotMeasured`` if that fails."""
    if not (target / "train.py").exists():
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        _run(["git", "clone", "--quiet", source, str(target)], 1)
    _run(["git", "checkout", "--quiet", "--force", COMMIT], 1, target)
    return target


def peer_interpreter(packages: Sequence[str]) -> Path:
    """The interpreter of an environment that adds packages to this one's."""
    folder = bench_root() / "peers" / packages[0]
    python, stamp = folder / "bin" / "python", folder / ".installed"
    if stamp.is_file() and stamp.read_text() == sys.executable:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], 1)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    here = sysconfig.get_paths()["purelib"]
    (folder / "lib" / version / "site-packages" / "ours.pth").write_text(here + "\n")
    _run([str(python), "-m", "pip", "install", "--quiet", *packages], 1)
    stamp.write_text(sys.executable)
    return python


def run_json(command: list[str], threads: int) -> dict[str, Any]:
    """The JSON of a command's last line. Raises ``NotMeasured`` if it failed."""
    answer: dict[str, Any] = json.loads(_run(command, threads).splitlines()[-1])
    return answer


def _run(command: list[str], threads: int, folder: Path | None = None) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotMeasured(
            f"{' '.join(command[:3])} failed: {done.stderr.strip()[-MAX_ERROR_CHARS:]}"
        )
    return done.stdout
