"""Environments of programs that users have beside Gristmill, and that cannot or need not be in its own."""

import fcntl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

# lm-evaluation-harness, and of what it requires that which this environment has not.
LM_EVAL = (
    "lm-eval==0.4.13",
    "datasets==5.2.0",
    "dill==0.4.1",
    "evaluate==0.4.6",
    "more-itertools==11.2.1",
    "multiprocess==0.70.19",
    "pandas==3.1.1",
    "sqlitedict==2.1.0",
    "word2number==1.1",
)


def interpreter(config: pytest.Config, name: str, packages: Sequence[str]) -> Path:
    """Return an interpreter that has packages, and those of this environment behind them.

    It is made once and kept in pytest's cache.

    Args:
        config: of pytest.
        name: of its folder.
        packages: with their versions; nothing is installed that they require.
    """
    assert config.cache is not None
    folder = config.cache.mkdir(name)
    uv, python = Path(sys.executable).with_name("uv"), folder / "bin" / "python"
    wanted = str((packages, sys.version))
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "done"
        if not done.exists() or done.read_text() != wanted:
            subprocess.run([uv, "venv", "--clear", "-p", sys.executable, folder], check=True)
            subprocess.run([uv, "pip", "install", "--no-deps", "-p", python, *packages], check=True)
            own = next(path for path in map(Path, sys.path) if path.name == "site-packages")
            (other,) = folder.glob("lib/python*/site-packages")
            (other / "zz_this_environment.pth").write_text(f"{own}\n")  # after its own packages
            done.write_text(wanted)
    return python
