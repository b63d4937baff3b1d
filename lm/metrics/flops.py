"""How many floating point operations a token costs, and how many the device could do."""

import time

import torch

# Dense bf16 or fp16 with fp32 sums, FLOP/s, by the whole name that the driver gives: names that begin
# alike stand for other chips or clocks (L4 and L40, RTX 4090 and 4090 D, H100 and H100 NVL, a slice
# of a GPU). From NVIDIA's data sheets, halved where those count sparsity: H100 and H200 Tensor Core
# GPU, A100 Tensor Core GPU, L40S, L4, A10; RTX 4090: Ada GPU architecture, appendix A.
_H100, _A100 = 989e12, 312e12
DATASHEET_FLOPS = {
    "H200": _H100,
    "H100 80GB HBM3": _H100,  # SXM
    "H100 PCIe": 756e12,
    "A100-SXM4-40GB": _A100,
    "A100-SXM4-80GB": _A100,
    "A100-PCIE-40GB": _A100,
    "A100-PCIE-80GB": _A100,
    "A100 80GB PCIe": _A100,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "GeForce RTX 4090": 165e12,
}
MATMUL_SIZE, GPU_MATMUL_SIZE = 1024, 8192
MIN_MEASURE_S = 0.15


def datasheet_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """A known GPU's operations per second by its datasheet, in bf16 or fp16; else ``None``."""
    if device.type == "cuda" and dtype != torch.float32:
        return datasheet_peak(torch.cuda.get_device_name(device))
    return None


def datasheet_peak(name: str) -> float | None:
    """Operations per second of the GPU that the driver calls so; ``None`` if it is not known."""
    return DATASHEET_FLOPS.get(name.removeprefix("NVIDIA "))


def measure_matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a square matrix product in ``dtype``, measured now.

    1024 wide on a CPU, 8192 on a GPU, with whatever else is running. The numbers are normal ones, as
    in training: a GPU draws less power for constant ones, and clocks higher. The generator is its
    own, so that nothing else draws other numbers for it.
    """
    side = GPU_MATMUL_SIZE if device.type == "cuda" else MATMUL_SIZE
    drawn = torch.Generator(device).manual_seed(0)
    matrix = torch.randn(side, side, device=device, dtype=dtype, generator=drawn)
    best, spent = float("inf"), 0.0
    while spent < MIN_MEASURE_S:
        began = time.perf_counter()
        product = matrix @ matrix
        if device.type == "cuda":
            product[0, 0].item()
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return 2.0 * side**3 / best
