"""What a training step of each encoder-decoder costs on one core: time, FLOP/s, memory kept.

``python -m benchmarks.bench_seq2seq`` prints the median of interleaved passes, forward and backward, over the
same rows with models of two layers 256 wide, and the bytes that the forward pass keeps for the backward
pass. "recomputed" is with ``run.activation_checkpointing``.
"""

import statistics
import time
from typing import Any

import numpy as np
import torch

from lm.models.neural_lm import NeuralLM
from lm.models.registry import build_model
from lm.objectives.examples import Examples
from lm.train.worker import tune_malloc
from tests.train_entry import train_config

REPETITIONS = 5
ROWS, CONTEXT, VOCABULARY = 16, 256, 4096
SIZES: dict[str, Any] = {"num_layers": 2, "hidden_size": 256, "context_length": CONTEXT}
ARCHITECTURES: dict[str, dict[str, Any]] = {"t5": {"num_heads": 4}, "gru": {"architecture": "gru"}}


def learn(model: NeuralLM, examples: Examples, dtype: torch.dtype) -> None:
    """Do one forward and backward pass."""
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = model(examples.inputs, examples.targets, source=examples.source)
    loss.backward()


def kept_bytes(model: NeuralLM, examples: Examples) -> int:
    """Return the bytes of distinct tensors that a forward pass in fp32 keeps, without the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # The result holds what is kept, so that no address is used twice.
        loss = model(examples.inputs, examples.targets, source=examples.source)
    total = sum(storage.nbytes() for storage in kept.values())
    del loss
    return total


def main() -> None:
    """Measure and print everything."""
    tune_malloc()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, CONTEXT + 1))
    cases: dict[tuple[str, bool], tuple[NeuralLM, Examples]] = {}
    for name, fields in ARCHITECTURES.items():
        for recomputed in (False, True):
            entry = train_config(name="x", family="seq2seq", train_tokens=1, **SIZES, **fields)
            model = build_model(entry.model.resolve(VOCABULARY))
            model.activation_checkpointing = recomputed
            cases[name, recomputed] = model, model.objective(0, 0)(rows, np.arange(ROWS))
    for dtype in (torch.float32, torch.bfloat16):
        times: dict[tuple[str, bool], list[float]] = {case: [] for case in cases}
        for repetition in range(REPETITIONS + 1):
            for case, (model, examples) in cases.items():
                start = time.perf_counter()
                learn(model, examples, dtype)
                if repetition:  # the first warms caches up
                    times[case].append(time.perf_counter() - start)
        for (name, recomputed), (model, examples) in cases.items():
            rate = ROWS * CONTEXT / statistics.median(times[name, recomputed])
            memory = (
                f"{kept_bytes(model, examples) / 1e6:6.0f} MB" if dtype == torch.float32 else ""
            )
            print(
                f"{name:4} {str(dtype).removeprefix('torch.'):9} {'recomputed' if recomputed else 'kept':10} "
                f"{rate:8,.0f} tokens/s {rate * model.flops_per_token() / 1e9:7.1f} GFLOP/s {memory}"
            )


if __name__ == "__main__":
    main()
