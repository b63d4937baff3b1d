"""Where a training step's time is spent on one core, and what each choice saves.

``python -m benchmarks.bench_train_parts`` prints the median of interleaved repetitions and ratios. The
comparison with other trainers is a benchmark of its own.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional as F  # noqa: N812

from lm.metrics.flops import measure_matmul_flops
from lm.models.attention import causal_attention
from lm.models.cross_entropy import cross_entropy
from lm.models.decoder.sections import DecoderConfig
from lm.models.registry import build_model
from lm.optim.optimizers import build_optimizers
from lm.train.worker import tune_malloc
from tests.train_entry import train_config

REPETITIONS = 7
ROWS, CONTEXT, VOCABULARY = 16, 128, 4096


def compare(title: str, choices: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Time the choices in turns; print milliseconds and ratios to the first."""
    times: dict[str, list[float]] = {name: [] for name in choices}
    for repetition in range(REPETITIONS + 1):
        for name, run in choices.items():
            start = time.perf_counter()
            run()
            if repetition:  # the first warms caches up
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    reference = next(iter(medians.values()))
    for name, taken in medians.items():
        print(f"{title:28s} {name:24s} {taken * 1e3:9.2f} ms   {reference / taken:5.2f}x")
    return medians


def attention() -> None:
    """Compare torch's fused kernel with Gristmill's attention, forward and backward, bf16."""
    q, k, v = (
        torch.randn(ROWS, 4, CONTEXT, 64, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    )
    compare(
        f"attention, T={CONTEXT}",
        {
            "torch fused": lambda: (
                F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
            ),
            "explicit": lambda: causal_attention(q, k, v).sum().backward(),
        },
    )


def head() -> None:
    """Time the loss over the whole vocabulary, forward and backward, bf16 products."""
    hidden = torch.randn(ROWS * CONTEXT, 192, requires_grad=True)
    weight = torch.randn(VOCABULARY, 192, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (ROWS * CONTEXT,))

    def whole() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = F.linear(hidden, weight)
        F.cross_entropy(logits.float(), targets, reduction="sum").backward()

    def chunked() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(hidden, weight, targets)
        loss.backward()

    compare(f"head and loss, V={VOCABULARY}", {"whole logits": whole, "in chunks": chunked})


def step() -> None:
    """Time a model's forward and backward pass in both precisions, and an update."""
    shape = DecoderConfig(VOCABULARY, 4, 192, 3, 3, 512, CONTEXT)
    model = build_model(shape)
    tokens = torch.randint(0, VOCABULARY, (ROWS, CONTEXT + 1))

    def learn(precision: torch.dtype) -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = model(tokens[:, :-1], tokens[:, 1:])
        (loss / tokens.numel()).backward()

    medians = compare(
        "forward and backward",
        {"fp32": lambda: learn(torch.float32), "bf16": lambda: learn(torch.bfloat16)},
    )
    rate = ROWS * CONTEXT / medians["bf16"]
    peak = measure_matmul_flops(torch.device("cpu"), torch.bfloat16)
    utilization = rate * model.flops_per_token() / peak
    print(f"{'':28s} bf16: {rate:,.0f} tokens/s, {utilization:.0%} of a measured matrix product")
    updates = {}
    for name in ("muon", "adamw"):
        config = train_config(
            name="x", num_layers=4, hidden_size=192, num_heads=3, train_tokens=1, optimizer=name
        )
        built = build_optimizers(model, config, torch.bfloat16)
        updates[name] = lambda built=built: [one.step() for one in built.values()]
    compare("update", updates)


def main() -> None:
    """Print everything."""
    tune_malloc()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    attention()
    head()
    step()


if __name__ == "__main__":
    main()
