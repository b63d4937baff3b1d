"""``scripts/setup.sh`` and which interpreter it takes, with interpreters that only say who they are."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = """#!/bin/bash
# Python {minor}: answers what setup.sh asks, and makes an environment of itself.
me=$(readlink -f "$0")
case "$1 $2" in
    "-c "*) [[ "$2" == *print* ]] && echo "cpython 3 {minor}" ;;
    "--version ") echo "Python 3.{minor}.1" ;;
    "-m venv")
        for folder; do :; done
        [[ "$3" == --clear ]] && rm -rf "$folder"
        mkdir -p "$folder/bin"
        ln -s "$me" "$folder/bin/python"
        for name in uv gristmill; do printf '#!/bin/bash\n' > "$folder/bin/$name"; done
        chmod +x "$folder"/bin/* ;;
esac
exit 0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout that holds what the script reads, with Pythons 3.11 and 3.12 on the path."""
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
    """Run the script; the release of the environment's interpreter, and whether it was installed."""
    env = {**os.environ, "PATH": f"{project.parent}/bin:{os.environ['PATH']}"}
    env.pop("PYTHON", None)
    if python is not None:
        env["PYTHON"] = python
    ran = subprocess.run(
        [str(project / "scripts" / "setup.sh")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = subprocess.run(
        [str(project / ".venv" / "bin" / "python"), "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip() + (", installed" if "installing" in ran.stderr else "")


def test_another_interpreter_makes_the_environment_anew(project: Path) -> None:
    assert setup(project) == "Python 3.11.1, installed"
    assert setup(project) == "Python 3.11.1"
    (project / ".venv" / "left").touch()
    assert setup(project, "python3.12") == "Python 3.12.1, installed"
    assert not (project / ".venv" / "left").exists()


def test_an_environment_keeps_its_interpreter(project: Path) -> None:
    setup(project, "python3.12")
    (project / ".venv" / "left").touch()
    assert setup(project) == "Python 3.12.1"
    assert setup(project, "python3.12") == "Python 3.12.1"
    (project / "constraints.txt").write_text("more")
    assert setup(project) == "Python 3.12.1, installed"
    assert (project / ".venv" / "left").exists()
    assert setup(project, "python3.11") == "Python 3.11.1, installed"


def test_an_environment_whose_interpreter_is_gone_is_made_anew(project: Path) -> None:
    setup(project, "python3.12")
    (project.parent / "bin" / "python3.12").unlink()
    assert setup(project) == "Python 3.11.1, installed"
