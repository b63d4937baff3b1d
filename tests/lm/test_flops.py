"""The peak of a device: by its name, and measured."""

import pytest
import torch

from lm.metrics.flops import datasheet_peak, measure_matmul_flops


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", None),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", None),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ],
)
def test_a_name_that_only_starts_the_same_is_another_gpu(name: str, tera: int | None) -> None:
    assert datasheet_peak(name) == (None if tera is None else tera * 1e12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_measured_product_is_random_and_leaves_the_global_generator_alone(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    operands = []
    product = torch.Tensor.__matmul__

    def spy(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        operands.append(a)
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", spy)
    before = torch.get_rng_state()
    assert measure_matmul_flops(torch.device("cpu"), dtype) > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert len(operands[0][0].unique()) > 100
