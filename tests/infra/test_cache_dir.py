"""The cache folder of this machine while runs use it."""

import os
import shutil
from pathlib import Path

import pytest

from infra.store.cache_dir import ENV_VAR, find_stale


def test_a_folder_that_a_run_deletes_meanwhile_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_VAR, str(tmp_path))
    in_use, left = tmp_path / "train" / "in_use", tmp_path / "train" / "left"
    for folder in (in_use, left):
        folder.mkdir(parents=True)
        (folder / "state").write_bytes(b"1234")
        os.utime(folder / "state", (0, 0))
    look = Path.rglob

    def delete_and_look(path: Path, pattern: str) -> object:
        shutil.rmtree(in_use, ignore_errors=True)
        return look(path, pattern)

    monkeypatch.setattr(Path, "rglob", delete_and_look)
    assert find_stale(tmp_path / "kernels") == {left: 4}
