"""Training metrics, accumulated on the device and all-reduced when logged."""

import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lm.distributed.ranks import all_reduce_sum, local_rank, rank_and_world_size
from lm.metrics.energy import NvmlCounter, RaplCounter
from lm.metrics.flops import datasheet_flops, measure_matmul_flops
from lm.models.neural_lm import TrainableModel

DIGEST_MODULUS = 1 << 32  # sums of digests over processes stay exact in a float64
TIMERS = ("data_wait", "compile", "validation", "checkpoint")
ENERGY = ("cpu", "gpu")  # what has a counter of its energy


class TrainingMetrics:
    """Metrics since they were last read.

    Attributes:
        digest: sum of the hashes of this process's rows.
        step_seconds: mean duration of a step between the last two readings, with the wait for data
            and without anything else that was timed.
    """

    def __init__(self, model: TrainableModel, device: torch.device, dtype: torch.dtype) -> None:
        """Measure the device's peak; nothing is counted yet."""
        self._device = device
        self._flops_per_token = model.flops_per_token()
        self._matmul_flops = measure_matmul_flops(device, dtype)
        self._peak_flops = datasheet_flops(device, dtype) or self._matmul_flops
        self._step_sums = torch.zeros(3, dtype=torch.float64, device=device)
        self.step_seconds = 0.0
        # One process per machine reads the counter of its processors.
        self._energy: dict[str, RaplCounter | NvmlCounter] = {}
        if local_rank() == 0 and (rapl := RaplCounter()).exists:
            self._energy["cpu"] = rapl
        if (nvml := NvmlCounter(device)).exists:
            self._energy["gpu"] = nvml
        self._spent = self._read_spent()
        self._reset()

    def _read_spent(self) -> list[float]:
        """Return what this process has spent: CPU seconds, and joules by counter (0 without it)."""
        joules = (self._energy[name].read() if name in self._energy else 0.0 for name in ENERGY)
        return [time.process_time(), *joules]

    def _reset(self) -> None:
        self._sums_by_step: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._timers: dict[str, float] = {}
        self._interval_start = time.perf_counter()
        self.digest = 0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the wall-clock time inside to a timer."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._timers[name] = self._timers.get(name, 0.0) + time.perf_counter() - start

    def add(self, nats: Tensor, targets: Tensor, tokens: Tensor) -> None:
        """Add a pass: its summed loss, the number of its targets, and of the tokens that they are from.

        Does not wait for the device.
        """
        self._step_sums[0] += nats.detach()
        self._step_sums[1] += targets
        self._step_sums[2] += tokens

    def end_step(self, norm: Tensor) -> None:
        """End a step with this gradient norm. Does not wait for the device."""
        self._sums_by_step.append(self._step_sums)
        self._norms.append(norm.detach())
        self._step_sums = torch.zeros_like(self._step_sums)

    def read(self) -> tuple[dict[str, float], list[tuple[float, float]]]:
        """Return the metrics over all processes, which all call this; start a new interval.

        Returns:
            ``loss`` in nats per target, weighted by targets over processes, passes and steps;
            ``tokens`` of the text that was read, which for most models are the targets;
            ``gradient_norm`` of the last step with a finite one;
            ``tokens_per_second`` of wall-clock time, stalls included; ``mfu``, the fraction of the
            processes' peak, from the data sheet where there is one; ``matmul_utilization``, the
            fraction of the speed of a matrix product measured at the start;
            ``data_wait_fraction``, the fraction of the time spent waiting for data;
            ``memory_bytes``, the peak summed over processes; ``rows_digest``, equal for equal
            tokens; ``cpu_seconds``, summed over processes; and, if not zero, ``cpu_joules`` and
            ``gpu_joules`` of all machines (``lm.metrics.energy``) and the mean seconds per process
            of ``compile``, ``validation`` and ``checkpoint``. Besides, (loss, norm) of each step.
        """
        seconds = time.perf_counter() - self._interval_start
        world_size = rank_and_world_size()[1]
        other = sum(self._timers.values()) - self._timers.get("data_wait", 0.0)
        self.step_seconds = (seconds - other) / len(self._sums_by_step)
        sums = all_reduce_sum(torch.stack(self._sums_by_step)).tolist()
        norms = torch.stack(self._norms).tolist()
        finite = [norm for norm in norms if math.isfinite(norm)]
        spent = self._read_spent()
        own = [
            _peak_memory(self._device),
            self._peak_flops,
            self._matmul_flops,
            self.digest % DIGEST_MODULUS,
            *(self._timers.get(name, 0.0) for name in TIMERS),
            *(now - before for now, before in zip(spent, self._spent, strict=True)),
        ]
        self._spent = spent
        totals = all_reduce_sum(torch.tensor(own, dtype=torch.float64, device=self._device))
        memory, peak, matmul, digest, data_wait, *others = totals.tolist()
        other_timers, (cpu_seconds, *joules) = others[: len(TIMERS) - 1], others[len(TIMERS) - 1 :]
        self._reset()
        targets, tokens = sum(step[1] for step in sums), sum(step[2] for step in sums)
        speed = tokens / seconds
        values = {
            "loss": sum(step[0] for step in sums) / targets,
            "tokens": tokens,
            **({"gradient_norm": finite[-1]} if finite else {}),
            "tokens_per_second": speed,
            "mfu": speed * self._flops_per_token / peak,
            "matmul_utilization": speed * self._flops_per_token / matmul,
            "data_wait_fraction": data_wait / world_size / seconds,
            "memory_bytes": memory,
            "rows_digest": digest % DIGEST_MODULUS,
            "cpu_seconds": cpu_seconds,
            **{
                f"{name}_joules": value for name, value in zip(ENERGY, joules, strict=True) if value
            },
        }
        for name, spent in zip(TIMERS[1:], other_timers, strict=True):
            if spent:
                values[f"{name}_seconds"] = spent / world_size
        return values, [(step[0] / step[1], norm) for step, norm in zip(sums, norms, strict=True)]


def _peak_memory(device: torch.device) -> float:
    """Return the most bytes that this process has held."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
