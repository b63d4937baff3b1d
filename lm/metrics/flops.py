"""The peak floating-point operations per second of a device."""

import time

import torch

# Dense bf16 or fp16 with fp32 sums, FLOP/s, by the full name that the driver reports: names with the
# same start are other chips or clocks (L4 and L40, RTX 4090 and 4090 D, H100 and H100 NVL, a MIG
# slice). From NVIDIA's data sheets, halved where those count sparsity: H100 and H200 Tensor Core
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
    """Return a known GPU's peak in bf16 or fp16, FLOP/s; else ``None``."""
    if device.type == "cuda" and dtype != torch.float32:
        return datasheet_peak(torch.cuda.get_device_name(device))
    return None


def datasheet_peak(name: str) -> float | None:
    """Return the peak of the GPU with this name in the driver, FLOP/s; ``None`` if unknown."""
    return DATASHEET_FLOPS.get(name.removeprefix("NVIDIA "))


def measure_matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the FLOP/s of a square matrix product in ``dtype``.

    The matrix is 1024 wide on a CPU and 8192 on a GPU. Its values are normally distributed, as in
    training: with constant values a GPU draws less power and clocks higher. A generator of its own
    leaves the global one as it is.
    """
    side = GPU_MATMUL_SIZE if device.type == "cuda" else MATMUL_SIZE
    generator = torch.Generator(device).manual_seed(0)
    matrix = torch.randn(side, side, device=device, dtype=dtype, generator=generator)
    best, spent = float("inf"), 0.0
    while spent < MIN_MEASURE_S:
        start = time.perf_counter()
        product = matrix @ matrix
        if device.type == "cuda":
            product[0, 0].item()
        duration = time.perf_counter() - start
        best, spent = min(best, duration), spent + duration
    return 2.0 * side**3 / best
