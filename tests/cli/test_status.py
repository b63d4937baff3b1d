"""``gristmill status``: runs, data and disk use of a store, from the store alone."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prefect.settings import PREFECT_API_URL, temporary_settings

from cli.status import status
from infra.compute.lease import RunLease
from infra.compute.processes import boot_id
from infra.runs.run_records import (
    CANCELLED,
    COMPLETED,
    RunRecord,
    StageRecord,
    new_run_id,
    save_run,
)
from infra.store.storage import Storage
from tests.cli.test_gc import RECIPE
from tests.infra.test_unit_cache import build, context
from tests.processes import ROOT
from tests.servers import free_port
from views.status.collect import MAX_RUNS


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty store, and no Prefect server."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return Storage(str(tmp_path / "store"))


def run(*arguments: str) -> Result:
    """Call the command."""
    return CliRunner().invoke(status, list(arguments))


def run_json(*arguments: str) -> dict[str, Any]:
    """Call the command for its JSON."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def save(storage: Storage, recipe: str, state: str, *stages: StageRecord) -> str:
    """Save the record of a run that starts now; return its id."""
    record = RunRecord(recipe, new_run_id(storage), "2026-01-31T12:00:00+00:00", 61.0, state)
    error = "annotate dump: the disk is full" if state != COMPLETED else None
    save_run(storage, RunRecord(**{**vars(record), "error": error, "stages": stages}))
    return record.run


def stage(storage: Storage, name: str, source: str | None, *words: str) -> StageRecord:
    """Build a small data set, and record it as that of a stage."""
    built = build(context(storage), *words)
    record = StageRecord.from_dataset(built, seconds=1.0, cached=False)
    return StageRecord(**{**vars(record), "stage": name, "source": source})


def test_it_works_before_any_run_on_the_quickstart(
    store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRISTMILL_CACHE", raising=False)
    result = run(str(ROOT / "recipes" / "quickstart.yaml"), "--storage", store.url)
    assert result.exit_code == 0, result.output
    assert "No run yet of quickstart" in result.output
    assert run_json("--storage", store.url)["runs"] == []
    stage(store, "acquire", "dump", "one")  # of a run that was killed
    assert run_json("--storage", store.url)["reclaimable_bytes"] is None


def test_it_shows_the_last_runs_and_what_they_made(store: Storage) -> None:
    save(store, "small", CANCELLED)
    first = stage(store, "acquire", "dump", "one", "two")
    corpus = stage(store, "select", None, "one", "three")
    last = save(store, "small", COMPLETED, first, corpus)
    save(store, "other", COMPLETED)
    value = run_json("--storage", store.url)
    assert [(item["recipe"], item["state"]) for item in value["runs"]] == [
        ("other", "completed"),
        ("small", "completed"),
        ("small", "cancelled"),
    ]
    shown = {item["run"]: item for item in value["runs"]}
    assert (shown[last]["built"], shown[last]["cached"], shown[last]["seconds"]) == (2, 0, 61.0)
    segment, selected = value["data"]
    assert (segment["kind"], segment["name"], segment["documents"]) == ("segment", "dump", 2)
    assert (selected["kind"], selected["text_bytes"]) == ("corpus", len("ONETHREE"))
    assert segment["bytes"] == sum(store.file_sizes(first.path).values())
    assert value["bytes"] == sum(value["disk"].values()) == sum(store.file_sizes().values())
    assert value["reclaimable_bytes"] is not None
    result = run("--storage", store.url)
    assert all(len(line.rstrip()) <= 80 for line in result.output.splitlines()[1:])
    assert "the disk is full" in result.output


def test_only_the_latest_runs_of_the_named_recipes_are_shown(
    store: Storage, tmp_path: Path
) -> None:
    ids = [save(store, "small", COMPLETED) for _ in range(MAX_RUNS + 1)]
    save(store, "other", COMPLETED)
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE.format(name="small", storage=store.url))
    assert [item["run"] for item in run_json(str(path))["runs"]] == ids[:0:-1]


def test_running_and_killed_runs_are_known_by_their_leases(store: Storage) -> None:
    save(store, "small", COMPLETED)
    lease = RunLease(store, "small", new_run_id(store))
    lease.hold(["annotate/dump-0123456789abcdef"])
    store.write("annotate/dump-0123456789abcdef/part-00000.parquet", b"rows")
    killed = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = {
        "recipe": "small",
        "run": new_run_id(store),
        "host": socket.gethostname(),
        "pid": int(killed.stdout),
        "boot": boot_id(),
        "renewed": 4e9,
        "ended": False,
        "folders": [],
    }
    store.write(f"runs/small/leases/{dead['run']}.lease", json.dumps(dead).encode())
    by_state = {item["state"]: item for item in run_json("--storage", store.url)["runs"]}
    assert by_state.keys() == {"running", "crashed", "completed"}
    assert by_state["running"]["building"] == {"annotate/dump-0123456789abcdef": 1}
    assert by_state["crashed"]["pid"] == dead["pid"]
    assert "building annotate/dump" in run("--storage", store.url).output
    lease.close(completed=False)
    states = [item["state"] for item in run_json("--storage", store.url)["runs"]]
    assert "running" not in states, "a run that has ended is known by its record only"


def test_a_server_that_is_away_is_named_and_hides_nothing(
    store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, "small", COMPLETED)
    url = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    # Prefect reads the environment once, and an earlier test of this process may have imported it.
    with temporary_settings({PREFECT_API_URL: url}):
        result = run("--storage", store.url)
    assert result.exit_code == 0, result.output
    assert url in result.output
    assert "small" in result.output


def test_watching_needs_a_terminal(store: Storage) -> None:
    assert run("--storage", store.url, "--watch").exit_code == 2
