"""Energy that the hardware itself counts: RAPL of the processors, NVML of a GPU.

Both count all that a machine's processors or a GPU did, for whichever process. Where a counter is missing
or cannot be read (most virtual machines; RAPL for users other than root), nothing is measured.
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import torch

RAPL_ROOT = Path("/sys/class/powercap")
# Packages hold cores and caches; memory is a zone of its own. Zones inside (core, uncore) are parts.
RAPL_ZONES = ("package-", "dram")
NVML_LIBRARY = "libnvidia-ml.so.1"


class RaplCounter:
    """Joules of this machine's processors and memory (Linux, `intel-rapl`, which AMD has, too)."""

    def __init__(self, root: Path = RAPL_ROOT) -> None:
        """Start at the present state of the zones that can be read."""
        self._joules = 0.0
        self._zones = {zone: energy for zone in _rapl_zones(root) if (energy := _read(zone)) >= 0}

    @property
    def exists(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._zones)

    def read(self) -> float:
        """Return joules since the start. A zone's counter must not wrap twice between two calls."""
        for zone, before in self._zones.items():
            now = _read(zone)
            if now < 0:
                continue
            wrap = _read(zone, "max_energy_range_uj") if now < before else 0
            self._joules += (now - before + wrap) / 1e6
            self._zones[zone] = now
        return self._joules


class NvmlCounter:
    """Joules of the GPU that this process computes on."""

    def __init__(self, device: torch.device) -> None:
        """Start at the present state of the GPU's counter, which Volta and newer chips have."""
        self._read_mj = _nvml_reader(device) if device.type == "cuda" else None
        self._start = self._read_mj() if self._read_mj is not None else -1

    @property
    def exists(self) -> bool:
        """Whether there is anything to read."""
        return self._start >= 0

    def read(self) -> float:
        """Return joules since the start."""
        assert self._read_mj is not None
        return max(0, self._read_mj() - self._start) / 1e3


def _rapl_zones(root: Path) -> Iterator[Path]:
    for zone in sorted(root.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
        except OSError:
            continue
        if name.startswith(RAPL_ZONES):
            yield zone


def _read(zone: Path, file: str = "energy_uj") -> int:
    try:
        return int((zone / file).read_text())
    except (OSError, ValueError):
        return -1


class _NvmlReader:
    """Reads one GPU's counter, in millijoules; -1 if it has none."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = library, handle

    def __call__(self) -> int:
        value = ctypes.c_ulonglong()
        status = self._library.nvmlDeviceGetTotalEnergyConsumption(
            self._handle, ctypes.byref(value)
        )
        return -1 if status else value.value


def _nvml_reader(device: torch.device) -> _NvmlReader | None:
    """Return what reads a GPU's counter; NVML finds it by UUID, as CUDA may number GPUs differently."""
    try:
        library = ctypes.CDLL(NVML_LIBRARY)
    except OSError:
        return None
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    handle = ctypes.c_void_p()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)):
        return None
    return _NvmlReader(library, handle)
