"""The figures of a run: sums on the device, brought together over all processes when asked for."""

import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributed import all_reduce, get_rank, get_world_size, is_initialized

from lm.metrics.flops import datasheet_flops, measure_matmul_flops
from lm.models.causal_lm import CausalLM

DIGEST_MODULUS = 1 << 32  # sums of digests over processes stay exact in a float64


def rank_and_world_size() -> tuple[int, int]:
    """``(rank, number of processes)``."""
    return (get_rank(), get_world_size()) if is_initialized() else (0, 1)


def local_rank() -> int:
    """This process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if is_initialized():
        all_reduce(value)
    return value


class TrainingMetrics:
    """Figures since the last reading.

    Attributes:
        digest: sum of the hashes of the rows that it was served.
        step_seconds: that a step took between the last two readings, waiting for data included and
            nothing else that was lost.
    """

    def __init__(self, model: CausalLM, device: torch.device, dtype: torch.dtype) -> None:
        """Measure the device's peak; nothing is counted yet."""
        self._device = device
        self._flops_per_token = model.flops_per_token()
        self._matmul_flops = measure_matmul_flops(device, dtype)
        self._peak_flops = datasheet_flops(device, dtype) or self._matmul_flops
        self._step_sums = torch.zeros(2, dtype=torch.float64, device=device)
        self.step_seconds = 0.0
        self._reset()

    def _reset(self) -> None:
        self._sums_by_step: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._timers: dict[str, float] = {}
        self._interval_start = time.perf_counter()
        self.digest = 0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the seconds inside, by the clock, under a name of their own."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._timers[name] = self._timers.get(name, 0.0) + time.perf_counter() - began

    def add(self, nats: Tensor, tokens: Tensor) -> None:
        """Count a pass: its summed loss and the tokens it was taken over. Does not wait."""
        self._step_sums[0] += nats.detach()
        self._step_sums[1] += tokens

    def end_step(self, norm: Tensor) -> None:
        """End a step, whose gradient had this norm. Does not wait."""
        self._sums_by_step.append(self._step_sums)
        self._norms.append(norm.detach())
        self._step_sums = torch.zeros_like(self._step_sums)

    def read(self) -> tuple[dict[str, float], list[tuple[float, float]]]:
        """The figures over all processes, which all call this; a new interval begins.

        Returns:
            ``loss`` in nats per token, token-weighted over processes, passes and steps, and the
            ``tokens`` that it is taken over;
            ``gradient_norm`` of the last step that had one; ``tokens_per_second`` by the clock, stalls
            included; ``mfu``, the share of the processes' peak by the datasheet, where there is
            one, and ``matmul_utilization``, that of a matrix product measured beforehand;
            ``data_wait_fraction``, the share of the time spent waiting for data; ``memory_bytes`` over all
            processes; ``rows_digest``, equal for equal tokens; and, where there were any, the
            seconds of each process spent on ``compile``, ``validation`` and ``checkpoint``.
            Beside them (loss, norm) of each step.
        """
        seconds = time.perf_counter() - self._interval_start
        world = rank_and_world_size()[1]
        names = ("data_wait", "compile", "validation", "checkpoint")
        lost = [self._timers.get(name, 0.0) for name in names]
        own = [
            _peak_memory(self._device),
            self._peak_flops,
            self._matmul_flops,
            self.digest % DIGEST_MODULUS,
        ]
        beside = sum(self._timers.values()) - self._timers.get("data_wait", 0.0)
        self.step_seconds = (seconds - beside) / len(self._sums_by_step)
        sums = all_reduce_sum(torch.stack(self._sums_by_step)).tolist()
        norms = torch.stack(self._norms).tolist()
        finite = [norm for norm in norms if math.isfinite(norm)]
        told = all_reduce_sum(
            torch.tensor(own + lost, dtype=torch.float64, device=self._device)
        ).tolist()
        memory, peak, matmul, digest, waited, *others = told
        self._reset()
        tokens = sum(counted for _, counted in sums)
        speed = tokens / seconds
        figures = {
            "loss": sum(nats for nats, _ in sums) / tokens,
            "tokens": tokens,
            **({"gradient_norm": finite[-1]} if finite else {}),
            "tokens_per_second": speed,
            "mfu": speed * self._flops_per_token / peak,
            "matmul_utilization": speed * self._flops_per_token / matmul,
            "data_wait_fraction": waited / world / seconds,
            "memory_bytes": memory,
            "rows_digest": digest % DIGEST_MODULUS,
        }
        for name, spent in zip(names[1:], others, strict=True):
            if spent:
                figures[f"{name}_seconds"] = spent / world
        return figures, [(nats / n, norm) for (nats, n), norm in zip(sums, norms, strict=True)]


def _peak_memory(device: torch.device) -> float:
    """Bytes that this process held at most."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
