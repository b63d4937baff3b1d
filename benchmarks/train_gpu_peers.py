"""One measured configuration of Gristmill or a peer on a GPU, each in its own process.

Peers are run from copies in a temporary folder, changed in the few places that are named here:
sizes, a clock, the peak of memory. What cannot be run is not measured, with the reason.
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.train_peers import NotMeasured
from tests.servers import free_port

HERE = Path(__file__).parent
SHARD_MAGIC = 20240520  # of modded-nanogpt's token files: 256 int32, then uint16 ids
STEP = 524_288  # tokens of one of its steps
WARMUP_STEPS, STEPS = 10, 50
CLOCK = "    torch.cuda.synchronize(); print(f'clock {time.perf_counter()}', flush=True)\n"
PEAK = "print(f'peak {torch.cuda.max_memory_allocated()}', flush=True)\n"


class OutOfMemory(NotMeasured):
    """The batch does not fit."""


@dataclass(frozen=True)
class Size:
    """A decoder's shape as all of them take it."""

    num_layers: int
    hidden_size: int
    num_heads: int
    context_length: int
    vocabulary: int


@dataclass(frozen=True)
class Run:
    """One measured configuration.

    Attributes:
        tokens: per step.
        seconds: per step.
        compiled: seconds until the first step beyond that, if they are known.
        peak: bytes allocated on the device at most, if they are known.
        details: its other output.
    """

    tokens: int
    seconds: float
    compiled: float | None
    peak: float | None
    details: Mapping[str, Any]


def run_command(
    command: Sequence[str],
    seconds: float,
    folder: Path | None = None,
    extra: Mapping[str, str] | None = None,
) -> str:
    """Return what a command prints within a time limit; end it and its children afterwards.

    Raises:
        OutOfMemory: if it ran out of the device's memory.
        NotMeasured: if it failed or took longer; the message says why.
    """
    roots = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(roots), **(extra or {})}
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            result, errors = process.communicate(timeout=max(1.0, seconds))
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"not done within {seconds:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        if "OutOfMemoryError" in errors or "CUDA out of memory" in errors:
            raise OutOfMemory("out of memory")
        lines = [line for line in errors.strip().splitlines() if line.strip()]
        why = next((x for x in reversed(lines) if re.match(r"[\w.]*(Error|Exception)\b", x)), "")
        raise NotMeasured(f"status {process.returncode}: {(why or ' '.join(lines[-2:]))[:300]}")
    return result


def ours(settings: Mapping[str, Any], seconds: float, text: Path | None = None) -> Run:
    """Gristmill's own loop; settings as in ``benchmarks.train_ours``."""
    given = json.dumps(dict(settings))
    command = [sys.executable, "-m", "benchmarks.train_ours", str(text or "-"), given]
    result = json.loads(run_command(command, seconds).splitlines()[-1])
    tokens = settings["global_batch_size"] * settings["context_length"]
    middle = statistics.median(result.pop("ms")) / 1e3
    return Run(tokens, middle, result["compile_seconds"], result["memory_bytes"], result)


def huggingface(size: Size, batch: int, seconds: float, *, device: str, iterations: int) -> Run:
    """Hugging Face's Trainer on its GPT-2: SDPA (its default), bf16, compiled, fused AdamW."""
    given = {
        **vars(size), "threads_per_process": 8, "global_batch_size": batch, "precision": "bf16", "device": device,
        "iterations": iterations, "warm": min(WARMUP_STEPS, iterations // 2),
    }  # fmt: skip
    script = str(HERE / "peers" / "train_huggingface.py")
    result = json.loads(
        run_command([sys.executable, script, "-", json.dumps(given)], seconds).splitlines()[-1]
    )
    middle = result.get("mean_ms") or statistics.median(result["ms"])
    compiled, peak = result.get("compile_seconds"), result.get("memory_bytes")
    return Run(batch * size.context_length, middle / 1e3, compiled, peak, result)


def nanogpt(repository: Path | None, size: Size, batch: int, seconds: float) -> Run:
    """NanoGPT's own ``bench.py`` on synthetic data; it clips no gradients."""
    if repository is None:
        raise NotMeasured("no clone was given (--nanogpt)")
    source = patch_script(
        repository / "bench.py",
        {
            r"n_layer = \d+, n_head = \d+, n_embd = \d+": (
                f"n_layer = {size.num_layers}, n_head = {size.num_heads}, n_embd = {size.hidden_size}"
            ),
            r"( +)if stage == 1:\n": (
                r"\1print(f'stage {stage} {dt} {num_steps}', flush=True)" + "\n" + r"\g<0>"
            ),
            r"\Z": "\n" + PEAK,
        },
    )
    switches = [
        f"--batch_size={batch}", f"--block_size={size.context_length}", "--dtype=bfloat16",
        "--compile=True", "--real_data=False",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bench.py").write_text(source)
        for name in ("model.py", "configurator.py"):
            shutil.copy(repository / name, folder)
        result = run_command([sys.executable, "bench.py", *switches], seconds, Path(folder))
    return parse_bench(result, batch * size.context_length)


def parse_bench(stdout: str, tokens: int) -> Run:
    """Parse what the changed ``bench.py`` printed. Raises ``NotMeasured`` if it is not that."""
    stages = re.findall(r"^stage \d+ ([0-9.]+) (\d+)$", stdout, re.MULTILINE)
    peak = re.search(r"^peak (\d+)$", stdout, re.MULTILINE)
    if len(stages) != 2 or peak is None:
        raise NotMeasured("bench.py printed something else")
    (first, warm), (last, count) = ((float(took), int(n)) for took, n in stages)
    return Run(tokens, last / count, first - warm * last / count, float(peak[1]), {})


def modded(repository: Path | None, batch: int, seconds: float, steps: int = 8) -> Run:
    """The short script of modded-nanogpt's track 3 with random tokens, on one GPU.

    Its shape is fixed: 12 layers, width 768, 6 heads of 128, vocabulary 50,304, context 1,024.
    A step has 524,288 tokens, accumulated over passes of ``batch`` sequences.
    """
    if repository is None:
        raise NotMeasured("no clone was given (--modded)")
    script = repository / "records" / "track_3_optimization" / "train_gpt_simple.py"
    source = patch_script(
        script,
        {
            r"^val_tokens = .*$": f"val_tokens = {batch * 1024}",
            r"^mbs = \d+$": f"mbs = {batch}",
            r"^( +)train_steps = \d+$": rf"\1train_steps = {steps}",
            r"^( +)training_time = 0\n": r"\g<0>" + CLOCK,
            r"^( +)model\.zero_grad\(set_to_none=True\)\n": r"\g<0>    " + CLOCK,
            r"^dist\.destroy_process_group\(\)": PEAK + r"\g<0>",
        },
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data" / "fineweb10B"
        data.mkdir(parents=True)
        write_shard(data / "fineweb_train_000001.bin", (steps + 1) * STEP)
        write_shard(data / "fineweb_val_000000.bin", batch * 1024 + 1024)
        (folder / script.name).write_text(source)
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        command = [sys.executable, script.name]
        return parse_modded(run_command(command, seconds, folder, {**alone, **meeting}))


def parse_modded(stdout: str) -> Run:
    """Parse what the changed script printed: a time before the first step and after each of them."""
    at = [float(found) for found in re.findall(r"^clock ([0-9.]+)$", stdout, re.MULTILINE)]
    peak = re.search(r"^peak (\d+)$", stdout, re.MULTILINE)
    if len(at) < 5 or peak is None:
        raise NotMeasured("train_gpt_simple.py printed something else")
    each = [after - before for before, after in pairwise(at[2:])]
    middle = statistics.median(each)
    return Run(STEP, middle, at[2] - at[0] - 2 * middle, float(peak[1]), {})


def write_shard(path: Path, count: int) -> None:
    """A token file as modded-nanogpt reads it, of drawn ids below 50,257."""
    header = np.zeros(256, np.int32)
    header[:3] = SHARD_MAGIC, 1, count
    ids = np.random.default_rng(0).integers(0, 50_257, count, np.uint16)
    path.write_bytes(header.tobytes() + ids.tobytes())


def patch_script(path: Path, changes: Mapping[str, str]) -> str:
    """A script with patterns replaced, each exactly once. Raises ``NotMeasured`` if it differs."""
    try:
        source = path.read_text()
    except OSError as error:
        raise NotMeasured(f"{path} cannot be read: {error.strerror}") from error
    for pattern, new in changes.items():
        source, count = re.subn(pattern, new, source, flags=re.MULTILINE)
        if count != 1:
            raise NotMeasured(f"{path.name} is not the one that is known: {count} times {pattern}")
    return source
