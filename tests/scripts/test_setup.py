"""Which interpreter ``scripts/setup.sh`` uses, with stub interpreters that only report their version."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = """#!/bin/bash
# Python 3.{minor}: supports the calls of setup.sh, and creates an environment that links to itself.
self=$(readlink -f "$0")
case "$1 $2" in
    "-c "*) [[ "$2" == *print* ]] && echo "cpython 3 {minor}" ;;
    "--version ") echo "Python 3.{minor}.1" ;;
    "-m venv")
        for folder; do :; done
        [[ "$3" == --clear ]] && rm -rf "$folder"
        mkdir -p "$folder/bin"
        ln -s "$self" "$folder/bin/python"
        for name in uv gristmill; do printf '#!/bin/bash\n' > "$folder/bin/$name"; done
        chmod +x "$folder"/bin/* ;;
esac
exit 0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with the files that the script reads, and Python 3.11 and 3.12 on the path."""
    folder = tmp_path / "project"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup.sh", folder / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).write_text("")
    (tmp_path / "bin").mkdir()
    for name, minor in (("python3", 11), ("python3.11", 11), ("python3.12", 12)):
        stub = tmp_path / "bin" / name
        stub.write_text(STUB.format(minor=minor))
        stub.chmod(0o755)
    return folder


def setup(project: Path, python: str | None = None) -> str:
    """Run the script; return the version of the environment's Python, and whether it was installed."""
    env = {**os.environ, "PATH": f"{project.parent}/bin:{os.environ['PATH']}"}
    env.pop("PYTHON", None)
    if python is not None:
        env["PYTHON"] = python
    script = subprocess.run(
        [str(project / "scripts" / "setup.sh")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert script.returncode == 0, script.stderr
    version = subprocess.run(
        [str(project / ".venv" / "bin" / "python"), "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    return version.stdout.strip() + (", installed" if "installing" in script.stderr else "")


def test_another_interpreter_recreates_the_environment(project: Path) -> None:
    assert setup(project) == "Python 3.11.1, installed"
    assert setup(project) == "Python 3.11.1"
    (project / ".venv" / "old_file").touch()
    assert setup(project, "python3.12") == "Python 3.12.1, installed"
    assert not (project / ".venv" / "old_file").exists()


def test_an_environment_keeps_its_interpreter(project: Path) -> None:
    setup(project, "python3.12")
    (project / ".venv" / "old_file").touch()
    assert setup(project) == "Python 3.12.1"
    assert setup(project, "python3.12") == "Python 3.12.1"
    (project / "constraints.txt").write_text("more")
    assert setup(project) == "Python 3.12.1, installed"
    assert (project / ".venv" / "old_file").exists()
    assert setup(project, "python3.11") == "Python 3.11.1, installed"


def test_an_environment_whose_interpreter_is_missing_is_recreated(project: Path) -> None:
    setup(project, "python3.12")
    (project.parent / "bin" / "python3.12").unlink()
    assert setup(project) == "Python 3.11.1, installed"
