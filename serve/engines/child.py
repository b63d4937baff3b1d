"""How the processes of engines are called."""

import os
import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module; -P: no file of the working directory takes the place of a package."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """Return an environment with the packages of this process, whatever folder it was started in."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
