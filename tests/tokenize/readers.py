"""Run the shard readers of other projects, from their published packages.

Nothing is installed: each wheel is unpacked into the test's folder and put on the path of a separate
process, which uses this environment's torch and numpy.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from infra.download.pypi import fetch_archive

Pin = tuple[str, str, str, str]

MEGATRON: list[Pin] = [
    (
        "megatron-core",
        "0.16.1",
        "megatron_core-0.16.1-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "38f6bef63cd4ebc4c39c1eccbaf578596accba5c47d012faffa0670913aec131",
    )
]
DATATROVE: list[Pin] = [
    (
        "datatrove",
        "0.10.1",
        "datatrove-0.10.1-py3-none-any.whl",
        "b0846fc28482b25c9dbeaa09445066ff68266b58d762e9344c64fe5f6d92d14c",
    ),
    (
        "loguru",
        "0.7.3",
        "loguru-0.7.3-py3-none-any.whl",
        "31a33c10c8e1e10422bfd431aeb5d351c7cf7fa671e3c4df004162264b28220c",
    ),
]


def run_code(pins: list[Pin], code: str, *arguments: object, folder: Path) -> Any:
    """Run code in a process that can import the packages; return its last line of output, from JSON."""
    for pin in pins:
        with zipfile.ZipFile(fetch_archive(*pin)) as wheel:
            wheel.extractall(folder)
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2_000:]
    return json.loads(result.stdout.splitlines()[-1])
