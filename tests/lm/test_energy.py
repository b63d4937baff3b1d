"""Energy counters, on files as Linux has them."""

from pathlib import Path

import pytest
import torch

from lm.metrics.energy import NvmlCounter, RaplCounter


def zone(root: Path, folder: str, name: str, microjoules: int) -> Path:
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text("262143328850\n")
    return path / "energy_uj"


def test_packages_and_memory_are_added_but_no_part_of_a_package(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 1_000_000)
    cores = zone(tmp_path, "intel-rapl:0:0", "core", 0)
    counter = RaplCounter(tmp_path)
    package.write_text("7500000")
    memory.write_text("1250000")
    cores.write_text("2000000")
    assert counter.read() == pytest.approx(2.75)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 262_143_328_850 - 1_000_000)
    counter = RaplCounter(tmp_path)
    package.write_text("2000000")
    assert counter.read() == pytest.approx(3.0)
    package.write_text("2500000")
    assert counter.read() == pytest.approx(3.5)


def test_without_readable_counters_there_is_nothing(tmp_path: Path) -> None:
    assert not RaplCounter(tmp_path / "none").exists
    zone(tmp_path, "intel-rapl:0", "package-0", 1).unlink()
    assert not RaplCounter(tmp_path).exists
    assert not NvmlCounter(torch.device("cpu")).exists
