"""The figures of a run: sums on the device, brought together over all processes when asked for."""

import resource
import sys
import time

import torch
from torch import Tensor
from torch.distributed import all_reduce, get_rank, get_world_size, is_initialized

from tasks.train.ceiling import flops_per_token, peak_flops
from tasks.train.model import Decoder

DIGEST_MODULUS = 1 << 32  # sums of digests over processes stay exact in a float64


def place() -> tuple[int, int]:
    """``(rank, number of processes)``."""
    return (get_rank(), get_world_size()) if is_initialized() else (0, 1)


def reduced(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if is_initialized():
        all_reduce(value)
    return value


class Meter:
    """Figures since the last reading.

    Attributes:
        waited: seconds that this process waited for data.
        digest: sum of the hashes of the rows that it was served.
    """

    def __init__(self, model: Decoder, device: torch.device, dtype: torch.dtype) -> None:
        """Measure the device's peak; nothing is counted yet."""
        self._device = device
        self._cost = flops_per_token(model)
        self._peak = peak_flops(device, dtype)
        self._start()

    def _start(self) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        self._began = time.perf_counter()
        self.waited, self.digest = 0.0, 0

    def add(self, nats: Tensor, tokens: Tensor) -> None:
        """Count a pass: its summed loss and the tokens it was taken over. Does not wait."""
        self._sums[0] += nats.detach()
        self._sums[1] += tokens

    def read(self) -> dict[str, float]:
        """The figures over all processes, which all call this; a new interval begins.

        Returns:
            ``loss`` in nats per token, token-weighted over processes and passes;
            ``tokens_per_second`` by the clock, stalls included; ``mfu``, the share of the
            processes' peak; ``data_wait``, the share of the time spent waiting for data;
            ``memory_bytes`` over all processes; ``rows_digest``, equal for equal tokens.
        """
        seconds = time.perf_counter() - self._began
        own = [self.waited, _memory(self._device), self._peak, self.digest % DIGEST_MODULUS]
        nats, tokens = reduced(self._sums).tolist()
        waited, memory, peak, digest = reduced(
            torch.tensor(own, dtype=torch.float64, device=self._device)
        ).tolist()
        self._start()
        return {
            "loss": nats / tokens,
            "tokens_per_second": tokens / seconds,
            "mfu": tokens / seconds * self._cost / peak,
            "data_wait": waited / place()[1] / seconds,
            "memory_bytes": memory,
            "rows_digest": digest % DIGEST_MODULUS,
        }


def _memory(device: torch.device) -> float:
    """Bytes that this process held at most."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
