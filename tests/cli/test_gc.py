"""``gristmill gc``: what it prints, what it deletes, and what it refuses."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.gc import gc
from infra.runs.run_records import COMPLETED, RunRecord, StageRecord, save_run
from infra.store.cache_dir import MAX_AGE_S, STALE_FOLDERS
from infra.store.storage import Storage
from tests.infra.test_unit_cache import build, context

RECIPE = """
name: {name}
storage: {storage}
sources: [{{name: dump, kind: documents, paths: [x.jsonl]}}]
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A store with a data set that the recipe needs and one that it does not, and an old cache."""
    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path / "cache"))
    storage = Storage(str(tmp_path / "store"))
    ctx = context(storage)
    build(ctx, "old")
    stage = StageRecord.from_dataset(build(ctx, "new"), seconds=1.0, cached=False)
    for name in ("small", "other"):
        (tmp_path / f"{name}.yaml").write_text(RECIPE.format(name=name, storage=storage.url))
    save_run(storage, RunRecord("small", "1", "2026-01-01", 1.0, COMPLETED, stages=[stage]))
    for kind, name, age in (
        ("spool", "new", 0.0),
        *((kind, "old", 2 * MAX_AGE_S) for kind in STALE_FOLDERS),
    ):
        path = tmp_path / "cache" / kind / name / "spool.warc.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"pages")
        os.utime(path, (time.time() - age,) * 2)
    # Numba makes a folder before it writes the first kernel.
    (tmp_path / "cache" / "kernels" / "just-started").mkdir(parents=True)
    return storage


def run(tmp_path: Path, *arguments: str, recipe: str = "small") -> Result:
    """Call the command."""
    return CliRunner().invoke(gc, [str(tmp_path / f"{recipe}.yaml"), *arguments])


def run_json(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Call the command for its JSON."""
    result = run(tmp_path, *arguments, "--json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_a_dry_run_lists_what_a_run_then_deletes(tmp_path: Path, store: Storage) -> None:
    before = store.list_files()
    planned = run_json(tmp_path, "--dry-run")
    assert store.list_files() == before
    assert "would free" in run(tmp_path, "--dry-run").output
    deleted = run_json(tmp_path)
    assert deleted == {**planned, "dry_run": False}
    assert {item["kind"] for item in deleted["deleted"]} == {"data set", "unit cache"}
    old = [Path(item["path"]) for item in deleted["local_caches"]]
    assert {path.name for path in old} == {"old"}
    assert {path.parent.name for path in old} == set(STALE_FOLDERS)
    assert deleted["bytes"] > 0
    assert len(store.list_folders("upper")) == 1
    assert [path.name for path in (tmp_path / "cache" / "spool").iterdir()] == ["new"]
    assert (tmp_path / "cache" / "kernels" / "just-started").is_dir()
    assert run_json(tmp_path)["deleted"] == []


def test_a_recipe_without_a_run_and_two_stores_are_refused(tmp_path: Path, store: Storage) -> None:
    before = store.list_files()
    unknown = run(tmp_path, recipe="other")
    assert unknown.exit_code == 1
    assert "other" in unknown.output
    (tmp_path / "far.yaml").write_text(RECIPE.format(name="far", storage=tmp_path / "far"))
    two = run(tmp_path, str(tmp_path / "far.yaml"))
    assert two.exit_code == 1
    assert store.list_files() == before
