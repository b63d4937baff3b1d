"""How many floating point operations a token costs, and how many the device could do."""

import time

import torch

from tasks.train.model import Decoder

# Dense bf16 or fp16 with fp32 sums, TFLOP/s, from NVIDIA's data sheets; the first name that fits counts.
DATASHEET = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
}
SIDE, GPU_SIDE = 1024, 8192
SECONDS = 0.15


def flops_per_token(model: Decoder) -> float:
    """Of training: ``6 N + 12 L d T``, Chowdhery et al. 2022 (arXiv:2204.02311, appendix B).

    N counts the matrices that a token is multiplied by (the blocks' and the head), attention is
    counted in full, as nanoGPT does.
    """
    shape = model.shape
    blocks = sum(matrix.numel() for matrix, _ in model.matrices())
    matrices = blocks + shape.vocabulary * shape.width
    return 6.0 * matrices + 12.0 * shape.layers * shape.width * shape.context


def datasheet_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """A known GPU's operations per second by its datasheet, in bf16 or fp16; else ``None``."""
    if device.type == "cuda" and dtype != torch.float32:
        name = torch.cuda.get_device_name(device)
        return next((peak for known, peak in DATASHEET.items() if known in name), None)
    return None


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a square matrix product in ``dtype``, measured now.

    1024 wide on a CPU, 8192 on a GPU, with whatever else is running.
    """
    side = GPU_SIDE if device.type == "cuda" else SIDE
    # Random: of equal numbers, with fewer bits that flip, a GPU's product is up to a tenth faster.
    drawn = torch.Generator(device).manual_seed(0)  # and the run's own generator stays as it is
    matrix = torch.randn(side, side, device=device, generator=drawn).to(dtype)
    best, spent = float("inf"), 0.0
    while spent < SECONDS:
        began = time.perf_counter()
        product = matrix @ matrix
        if device.type == "cuda":
            product[0, 0].item()
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return 2.0 * side**3 / best
