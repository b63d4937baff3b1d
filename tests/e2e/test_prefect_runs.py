"""Runs as a real Prefect server sees them: cancelled, retried, with the logs of Dask's workers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acquire.sites import Reply, Site, html, serve
from tests.e2e.command import write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.e2e.noisy import LINE
from tests.e2e.prefect_server import ROOT, Prefect, wait_for
from tests.e2e.test_stop import command_of, descendants, endless, gone, trainers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def cancelled(prefect: Prefect, run: str, work: list[psutil.Process], store: Path) -> None:
    """Cancel as the UI does, and see that the run ends, in Prefect and on the machine."""
    prefect.ask(f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    wait_for(lambda: prefect.state(run) == "CANCELLED", 60)
    assert gone(work)
    (record,) = store.glob("runs/*/*.json")
    assert json.loads(record.read_text())["state"] == "cancelled"


def of_run(worker: int, word: str) -> list[psutil.Process]:
    """Every process below the worker, once one of them has a word in its command."""
    found = descendants(worker)
    return found if any(word in " ".join(command_of(process)) for process in found) else []


def test_a_cancelled_crawl_leaves_no_process(
    deployed: Prefect, worker: int, tmp_path: Path
) -> None:
    pages: dict[str, Reply] = {f"/{n}": html(f"Page {n}") for n in range(500)}
    pages["/"] = html("Front", *pages)
    with serve(Site(pages, delay=0.5)) as site:
        value = recipe(tmp_path / "data", mixed(tmp_path / "in"))
        web = {"name": "site", "kind": "web", "start_urls": [f"{site.url}/"], "delay": 1.0}
        value["sources"].append(web)
        run = deployed.run("pipeline/nightly", recipe=value, until="acquire")
        wait_for(lambda: len(site.paths) > 1, 90)
        wait_for(lambda: any((tmp_path / "data").glob("acquire/dump-*/manifest.json")), 60)
        work = of_run(worker, "tasks.acquire.web.crawler")
        assert any("spawn_main" in " ".join(command_of(p)) for p in work), "Dask's workers"
        cancelled(deployed, run, work, tmp_path / "data")


def test_a_cancelled_training_leaves_no_process(
    deployed: Prefect, worker: int, tmp_path: Path
) -> None:
    value = recipe(tmp_path / "data", mixed(tmp_path / "in", 20), train=[endless("one")])
    run = deployed.run("pipeline/nightly", recipe=value, until="train")
    wait_for(lambda: trainers(descendants(worker)), 120)
    cancelled(deployed, run, of_run(worker, "lm.train.worker"), tmp_path / "data")


def test_a_line_of_a_dask_worker_is_in_the_log_of_the_run(
    deployed: Prefect, worker: int, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {
        "n_workers": 1,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "preload": [str(ROOT / "tests" / "e2e" / "noisy.py")],
    }
    value = recipe(
        tmp_path / "data",
        mixed(tmp_path / "in", 20),
        cluster={"cluster_class": "distributed.LocalCluster", "cluster_kwargs": arguments},
    )
    run = deployed.run("pipeline/nightly", recipe=value, until="acquire")
    wait_for(lambda: deployed.state(run) == "COMPLETED", 120)

    def lines() -> list[dict[str, Any]]:
        of_it = {"flow_run_id": {"any_": [run]}}
        found = deployed.ask("/logs/filter", logs=of_it, limit=200)
        return [line for line in found if LINE in line["message"]]

    line = wait_for(lines, 20)[0]
    assert line["name"] == "tasks.noisy"


def test_a_network_error_costs_an_attempt(prefect: Prefect, tmp_path: Path) -> None:
    value = recipe(tmp_path / "data", mixed(tmp_path / "in", 20), cluster={"workers": 0})
    path = write_recipe(tmp_path / "r.yaml", value)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.e2e.flaky", str(path)],
        cwd=ROOT,
        env=prefect.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert path.with_suffix(".tried").exists()

    def done() -> list[dict[str, Any]]:
        found = prefect.ask("/task_runs/filter", task_runs={"name": {"any_": ["acquire dump"]}})
        return [
            item for item in found if item["state_type"] == "COMPLETED" and item["run_count"] == 2
        ]

    wait_for(done, 20)
