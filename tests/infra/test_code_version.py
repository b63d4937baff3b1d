"""Code versions: which files decide the bytes of which stage."""

import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import tasks
from infra.compute.jit import ROOT
from infra.dataset import code_version
from infra.dataset.code_version import FIRST_PARTY, OPERATIONAL, module_digests
from infra.dataset.stage import Stage

Versions = Callable[[], dict[str, dict[str, str]]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source tree."""
    for package in FIRST_PARTY:
        if (ROOT / package).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    return tmp_path


@pytest.fixture
def versions(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Versions:
    """Digests of all modules that decide the bytes of each stage, with the code of the copy."""
    for module in pkgutil.walk_packages(tasks.__path__, "tasks."):
        importlib.import_module(module.name)
    stages = {
        value.name: value
        for name, module in list(sys.modules.items())
        if name.startswith("tasks.")
        for value in vars(module).values()
        if isinstance(value, Stage) and value.keyed_by_code
    }
    assert {"extract", "annotate", "signatures", "dedup", "select", "train"} <= stages.keys()

    def find(name: str) -> Path | None:
        path = tree.joinpath(*name.split("."))
        files = (path / "__init__.py", path.with_suffix(".py"))
        return next((file for file in files if file.is_file()), None)

    monkeypatch.setattr(code_version, "_find_module", find)

    def digest() -> dict[str, dict[str, str]]:
        monkeypatch.setattr(code_version, "_CACHE", code_version._DigestCache())
        return {name: module_digests(stage.modules) for name, stage in stages.items()}

    return digest


def test_code_that_moves_bytes_and_shows_results_decides_none(
    tree: Path, versions: Versions
) -> None:
    before = versions()
    folders = [tree.joinpath(*name.split(".")) for name in OPERATIONAL]
    edited = 0
    for folder in folders:
        for path in folder.rglob("*.py"):
            path.write_text(f'{path.read_text()}\nCHANGED = "another message"\n')
            edited += 1
    assert edited > 80
    assert versions() == before


@pytest.mark.parametrize(
    ("file", "constant", "stages"),
    [
        ("infra/minhash/sketch.py", "DIGEST_BYTES", {"signatures", "dedup", "prepare"}),
        ("lm/optim/optimizers.py", "NS_STEPS", {"train", "finetune"}),
        ("tasks/finetune/metrics/classification.py", "CALIBRATION_BINS", {"score"}),
        ("tasks/annotate/signals/c4.py", "MIN_LINE_WORDS", {"annotate"}),
    ],
)
def test_a_constant_of_a_kernel_decides_the_stages_that_use_it(
    tree: Path, versions: Versions, file: str, constant: str, stages: set[str]
) -> None:
    before = versions()
    text = (tree / file).read_text()
    edited, count = re.subn(rf"(?m)^{constant} = (\d+)", rf"{constant} = 1\1", text)
    assert count == 1
    (tree / file).write_text(edited)
    after = versions()
    assert {name for name in before if before[name] != after[name]} == stages


def test_a_comment_decides_nothing(tree: Path, versions: Versions) -> None:
    before = versions()
    for path in tree.rglob("*.py"):
        path.write_text(f"{path.read_text()}\n# another comment\n")
    assert versions() == before


def test_no_module_is_imported_to_find_its_code_version() -> None:
    program = (
        "import sys; from infra.dataset.code_version import module_digests;"
        "assert 'lm.train.loop' in module_digests(['lm.train.worker']);"
        "sys.exit('torch' in sys.modules or 'lm.train.loop' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_the_steps_of_a_run_take_code_versions_in_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = module_digests(["tasks.acquire.input_files"])
    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path))  # nothing is known there
    parse = code_version._parse

    def parse_slowly(source: bytes) -> tuple[str, list[str]]:
        time.sleep(0.001)  # other threads run meanwhile
        return parse(source)

    monkeypatch.setattr(code_version, "_CACHE", code_version._DigestCache())
    monkeypatch.setattr(code_version, "_parse", parse_slowly)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(module_digests, [["tasks.acquire.input_files"]] * 4))
    assert results == [alone] * 4
