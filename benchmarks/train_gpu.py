"""Everything that training is measured by on one GPU, in one call of less than ten minutes.

    python -m benchmarks.train_gpu [--nanogpt FOLDER] [--seconds N] [--smoke]

Synthetic tokens, context 1,024, bf16, compiled, fused AdamW, gradients clipped, nothing waits for
the device within a step: GPT-2's shapes of 124 M and 350 M parameters at growing batches until the
memory is full. Beside them nanoGPT's own ``bench.py`` (``--nanogpt``: a clone) and Hugging Face's
Trainer at the same shape. Operations are counted as 6 N + 12 L d T for all; shares are of the
datasheet's 989 TFLOP/s and of a measured 8192 x 8192 product. Compilation is told apart. The
package needs torch, numpy and pydantic only.

``--smoke`` runs small shapes, on a CPU if need be, to see that the script works.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from tasks.train.ceiling import datasheet_flops, flops_per_token, matmul_flops
from tasks.train.config import TrainConfig
from tasks.train.layouts import build
from tasks.train.model import Decoder, Shape
from tasks.train.optim import build_optimizers
from tasks.train.parallel import clipped

VOCABULARY, CONTEXT, WARM, STEPS = 50_304, 1024, 10, 40
BATCHES = (16, 32, 64, 128)
PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Case:
    """A model and the settings that its optimizer is made from."""

    name: str
    shape: Shape
    optimizer: str = "adamw"


def cases(*, smoke: bool) -> list[Case]:
    """The models in the order of their importance."""
    if smoke:
        tiny = Shape(512, 2, 64, 4, 4, 256, 64, layout="gpt2")
        return [Case("smoke, GPT-2", tiny), Case("smoke, Muon", tiny, "muon")]
    small = Shape(VOCABULARY, 12, 768, 12, 12, 3072, CONTEXT, layout="gpt2")
    medium = replace(small, layers=24, width=1024, heads=16, kv_heads=16, hidden=4096)
    llama = Shape(VOCABULARY, 12, 768, 6, 6, 2048, CONTEXT)
    return [
        Case("124 M, GPT-2", small),
        Case("350 M, GPT-2", medium),
        Case("124 M, Llama, 6 heads of 128, Muon", llama, "muon"),
    ]


def step(
    outer: Decoder, model: Decoder, optimizers: dict[str, Optimizer], tokens: Tensor
) -> Tensor:
    """One update, as in ``tasks.train.loop``; gives the loss without waiting for it."""
    x, y = tokens[:, :-1], tokens[:, 1:]
    with torch.autocast(tokens.device.type, torch.bfloat16):
        loss: Tensor = outer(x, y)
    (loss / y.numel()).backward()
    clipped(model, 1.0)
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def measure(
    case: Case, batch: int, device: torch.device, peak: float | None, matmul: float
) -> None:
    """Print a row. Raises torch's out-of-memory error."""
    torch.manual_seed(0)
    model = build(case.shape).to(device)
    settings = {"name": "gpu", "layers": 1, "width": 64, "heads": 2, "tokens": 1}
    config = TrainConfig.model_validate({**settings, "optimizer": case.optimizer})
    optimizers = build_optimizers(model, config, torch.bfloat16)
    outer: Decoder = torch.compile(model)  # type: ignore[assignment]
    tokens = torch.randint(0, case.shape.vocabulary, (batch, case.shape.context + 1), device=device)
    began = time.perf_counter()
    step(outer, model, optimizers, tokens)
    _wait(device)
    compiled = time.perf_counter() - began
    for _ in range(WARM):
        step(outer, model, optimizers, tokens)
    _wait(device)
    began = time.perf_counter()
    loss = step(outer, model, optimizers, tokens)
    for _ in range(STEPS - 1):
        loss = step(outer, model, optimizers, tokens)
    _wait(device)
    seconds = (time.perf_counter() - began) / STEPS
    _row(case.name, batch, seconds, batch * case.shape.context / seconds, model, peak, matmul)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    nats = loss.item() / (batch * case.shape.context)
    print(
        f"{'':44}compiled in {compiled:.0f} s, {memory:.1f} GiB at most, loss {nats:.2f}",
        flush=True,
    )


def _row(
    name: str,
    batch: int,
    seconds: float,
    speed: float,
    model: Decoder,
    peak: float | None,
    matmul: float,
) -> None:
    rate = speed * flops_per_token(model)
    shares = f"{rate / matmul:6.1%} of a measured product"
    if peak is not None:
        shares = f"{rate / peak:6.1%} of the datasheet, {shares}"
    print(
        f"{name:36}{batch:6}  {1e3 * seconds:8.1f} ms{speed:12,.0f} tokens/s  {shares}", flush=True
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def nanogpt(folder: Path, batch: int, model: Decoder, peak: float | None, matmul: float) -> None:
    """The peer's own ``bench.py`` with synthetic data at GPT-2's 124 M parameters."""
    switches = [f"--batch_size={batch}", f"--block_size={CONTEXT}", "--dtype=bfloat16"]
    command = [sys.executable, "bench.py", "--compile=True", "--real_data=False", *switches]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.findall(r"time per iteration: ([0-9.]+)ms", done.stdout)
    if not found:
        print(f"nanoGPT: not measured: {done.stderr.strip()[-300:]}", flush=True)
        return
    seconds = float(found[-1]) / 1e3
    _row("nanoGPT, bench.py", batch, seconds, batch * CONTEXT / seconds, model, peak, matmul)


def huggingface(batch: int, model: Decoder, peak: float | None, matmul: float) -> None:
    """Hugging Face's Trainer on its GPT-2 of the same shape, compiled, bf16."""
    shape = model.shape
    given = {
        "layers": shape.layers, "width": shape.width, "heads": shape.heads, "threads": 8,
        "context": shape.context, "batch": batch, "iterations": WARM + STEPS, "precision": "bf16",
        "vocabulary": shape.vocabulary, "device": "cuda",
    }  # fmt: skip
    command = [sys.executable, str(PEERS / "train_huggingface.py"), "-", json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"Hugging Face Trainer: not measured: {done.stderr.strip()[-300:]}", flush=True)
        return
    ms = sorted(json.loads(done.stdout.splitlines()[-1])["ms"][WARM:])
    seconds = ms[len(ms) // 2] / 1e3
    _row("Hugging Face Trainer", batch, seconds, batch * CONTEXT / seconds, model, peak, matmul)


def main() -> None:
    """Print everything, until the seconds are spent."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--nanogpt", type=Path, help="a clone of nanoGPT")
    parser.add_argument("--seconds", type=float, default=540.0, help="begin nothing after these")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter()
    if not torch.cuda.is_available() and not options.smoke:
        sys.exit("error: torch sees no GPU; --smoke runs small shapes on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    peak, matmul = datasheet_flops(device, torch.bfloat16), matmul_flops(device, torch.bfloat16)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        f"{name}, torch {torch.__version__}, a square product runs at {matmul / 1e12:.1f} TFLOP/s"
    )
    largest: dict[str, int] = {}
    for batch in (2,) if options.smoke else BATCHES:
        for case in cases(smoke=options.smoke):
            if time.perf_counter() - began > options.seconds:
                print(f"{case.name}, batch {batch}: no time left", flush=True)
                continue
            try:
                measure(case, batch, device, peak, matmul)
                largest[case.name] = batch
            except torch.OutOfMemoryError:
                print(f"{case.name}, batch {batch}: out of memory", flush=True)
            torch.compiler.reset()
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
    if options.smoke:
        return
    first = cases(smoke=False)[0]
    model = build(first.shape)
    for batch in sorted({16, min(64, largest.get(first.name, 16))}):
        if options.nanogpt is not None and time.perf_counter() - began < options.seconds:
            nanogpt(options.nanogpt, batch, model, peak, matmul)
        if time.perf_counter() - began < options.seconds:
            huggingface(batch, model, peak, matmul)


if __name__ == "__main__":
    main()
