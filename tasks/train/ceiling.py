"""How many floating point operations a token costs, and how many the device could do."""

import time

import torch

from tasks.train.model import Decoder

# Dense bf16 with fp32 sums, TFLOP/s, from NVIDIA's data sheets; the first name that fits counts.
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
SIDE = 1024
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


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second that this process could do at best.

    A GPU in the table: its datasheet's bf16 figure. Otherwise the rate of a 1024 x 1024 matrix
    product in ``dtype``, measured now, with whatever else is running.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, peak in DATASHEET.items():
            if known in name and dtype == torch.bfloat16:
                return peak
    matrix = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
    best, spent = float("inf"), 0.0
    while spent < SECONDS:
        began = time.perf_counter()
        product = matrix @ matrix
        if device.type == "cuda":
            product[0, 0].item()
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return 2.0 * SIDE**3 / best
