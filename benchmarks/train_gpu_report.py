"""The peak of a GPU, and the lines and verdicts of its measurements.

``python -m benchmarks.train_gpu_report`` prints the device's peaks as one line of JSON, in its
own process, so that it leaves nothing on the device.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.train_gpu_peers import Run, Size
from lm.metrics.flops import datasheet_flops, measure_matmul_flops

GIB = 2**30
STATE_BYTES = 16  # per parameter: weight, gradient and two moments in fp32
BACKENDS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION")


def ceilings() -> dict[str, Any]:
    """Measure this machine's GPU, or its CPU if it has none."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device.type == "cuda"
    found: dict[str, Any] = {
        "device": device.type,
        "name": torch.cuda.get_device_name() if gpu else "CPU",
        "torch": torch.__version__,
        "datasheet": datasheet_flops(device, torch.bfloat16),
        "matmul": measure_matmul_flops(device, torch.bfloat16),
        "memory": torch.cuda.get_device_properties(device).total_memory if gpu else None,
    }
    if gpu:
        found["attention_ms"] = {
            f"{heads} heads of {768 // heads}": {name: attention(name, heads) for name in BACKENDS}
            for heads in (12, 6)
        }
    return found


def attention(backend: str, heads: int) -> float | str:
    """Measure causal attention, forward and backward, of 64 x 1,024 tokens in ms; or return why not."""
    shape = (64, 1024, 3, heads, 768 // heads)
    qkv = torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)

    def once() -> None:
        with sdpa_kernel([getattr(SDPBackend, backend)]):
            mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.autograd.grad(mixed, qkv, torch.ones_like(mixed), retain_graph=True)

    try:
        for _ in range(3):
            once()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            once()
        torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error).splitlines()[0][:80]
    return round(1e2 * (time.perf_counter() - start), 2)


def matrices(size: Size) -> float:
    """N: 12 d^2 per block in all of these shapes, and the head."""
    return 12.0 * size.num_layers * size.hidden_size**2 + size.vocabulary * size.hidden_size


class Report:
    """Prints rows as they come, and the targets at the end."""

    def __init__(self, ceiling: Mapping[str, Any]) -> None:
        """Print the peaks that fractions refer to."""
        self.ceiling = ceiling
        self.verdicts: list[tuple[str, str, str]] = []
        peak = ceiling["datasheet"]
        sheet = f"{peak / 1e12:.0f} TFLOP/s by the datasheet, " if peak else ""
        product = f"a square product runs at {ceiling['matmul'] / 1e12:.1f}"
        self.print_line(f"{ceiling['name']}, torch {ceiling['torch']}: {sheet}{product}")
        for heads, each in ceiling.get("attention_ms", {}).items():
            self.print_line(f"attention, {heads}, 65,536 tokens, forward and backward, ms: {each}")

    def print_line(self, line: str) -> None:
        """Print a line at once."""
        print(line, flush=True)

    def speed(self, size: Size, run: Run) -> float:
        """Operations per second by 6 N + 12 L d T per token."""
        each = 6 * matrices(size) + 12.0 * size.num_layers * size.hidden_size * size.context_length
        return each * run.tokens / run.seconds

    def peak_fraction(self, size: Size, run: Run) -> float | None:
        """Return the fraction of the datasheet's peak, if there is one."""
        peak = self.ceiling["datasheet"]
        return self.speed(size, run) / peak if peak else None

    def row(self, name: str, size: Size, batch: int, run: Run) -> None:
        """Print one line for one measured configuration; ``batch``: sequences per pass."""
        fraction = self.peak_fraction(size, run)
        parts = [
            f"{name:32}{batch:4} x {size.context_length}",
            f"{1e3 * run.seconds:9.1f} ms",
            f"{run.tokens / run.seconds:12,.0f} tokens/s",
            f"{fraction:6.1%} of the datasheet" if fraction is not None else "",
            f"{self.speed(size, run) / self.ceiling['matmul']:6.1%} of the product",
            f"{run.peak / GIB:5.1f} GiB" if run.peak else "",
            f"compiled in {run.compiled:.0f} s" if run.compiled is not None else "",
            self.estimate_max_batch(size, batch, run),
        ]
        self.print_line("  ".join(part for part in parts if part))

    def estimate_max_batch(self, size: Size, batch: int, run: Run) -> str:
        """Estimate how many sequences fit, if all but the state grows with them."""
        memory = self.ceiling["memory"]
        state = STATE_BYTES * matrices(size)
        if not memory or not run.peak or run.peak <= state:
            return ""
        return f"about {batch * (memory - state) / (run.peak - state):.0f} would fit"

    def check_target(
        self, what: str, value: float | None, met: Callable[[float], bool], form: str
    ) -> None:
        """Record a target's verdict; ``None``: not measured."""
        if value is None:
            self.verdicts.append((what, "not measured", ""))
        else:
            self.verdicts.append((what, "met" if met(value) else "MISSED", form.format(value)))

    def end(self) -> int:
        """Print all verdicts; return the exit status: 1 if a target is missed."""
        self.print_line("")
        for what, verdict, value in self.verdicts:
            self.print_line(f"{what:66}{verdict:14}{value}")
        return int(any(verdict == "MISSED" for _, verdict, _ in self.verdicts))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ceilings()) + "\n")
