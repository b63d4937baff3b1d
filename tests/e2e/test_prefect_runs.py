"""Runs on a real Prefect server: cancelled, retried, with the logs of Dask workers."""

import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.compute.lease import RunLease
from infra.store.storage import Storage
from tests.acquire.sites import Reply, Site, html, serve
from tests.e2e.command import run_to_end, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.e2e.endless import TRAINER, command_of, endless, find
from tests.e2e.noisy import LINE
from tests.e2e.prefect_server import Prefect
from tests.limits import wait_for
from tests.processes import ROOT, TreeProcess

pytestmark = pytest.mark.e2e


def cancel(
    prefect: Prefect, run: str, worker: TreeProcess, before: list[psutil.Process], store: Path
) -> None:
    """Cancel as the UI does, and check that the run ends in Prefect and on the machine."""
    prefect.post(f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    wait_for(lambda: prefect.state(run) == "CANCELLED")
    wait_for(lambda: set(worker.members()) <= set(before))
    (record,) = store.glob("runs/*/*.json")
    assert json.loads(record.read_text())["state"] == "cancelled"


def log_lines(prefect: Prefect, run: str) -> list[str]:
    """Return the first lines of a run's log in Prefect."""
    of_run = {"flow_run_id": {"any_": [run]}}
    lines = prefect.post("/logs/filter", logs=of_run, limit=200)
    return [line["message"] for line in lines]


def test_a_cancelled_crawl_leaves_no_process(
    deployed: Prefect, worker: TreeProcess, tmp_path: Path
) -> None:
    before = worker.members()
    pages: dict[str, Reply] = {f"/{n}": html(f"Page {n}") for n in range(500)}
    pages["/"] = html("Front", *pages)
    with serve(Site(pages, delay=0.5)) as site:
        value = recipe(tmp_path / "data", mixed(tmp_path / "in"))
        web = {"name": "site", "kind": "web", "start_urls": [f"{site.url}/"], "delay": 1.0}
        value["sources"].append(web)
        run = deployed.run("pipeline/example-pipeline", recipe=value, until="acquire")
        wait_for(lambda: len(site.paths) > 1)
        wait_for(lambda: any((tmp_path / "data").glob("acquire/dump-*/manifest.json")))
        processes = worker.members()
        assert find(processes, "tasks.acquire.web.crawler")
        assert any("spawn_main" in " ".join(command_of(p)) for p in processes), "Dask workers"
        cancel(deployed, run, worker, before, tmp_path / "data")


def test_a_training_waits_for_another_one_and_leaves_no_process_when_cancelled(
    deployed: Prefect, worker: TreeProcess, tmp_path: Path
) -> None:
    before = worker.members()
    value = recipe(tmp_path / "data", mixed(tmp_path / "in", 20), train=[endless("one")])
    earlier = "20200101-000000-000aaaa"
    elsewhere = RunLease(Storage(value["storage"]), value["name"], earlier, trains=True)
    try:
        run = deployed.run("pipeline/example-pipeline", recipe=value, until="train")
        wait_for(lambda: any(earlier in line for line in log_lines(deployed, run)))
        assert not list((tmp_path / "data").glob("acquire/*")), "it must not begin beside the other"
    finally:
        elsewhere.close(completed=True)
    wait_for(lambda: find(worker.members(), TRAINER))
    cancel(deployed, run, worker, before, tmp_path / "data")

    def states() -> dict[str, str]:
        tasks = deployed.post("/task_runs/filter", task_runs={"flow_run_id": {"any_": [run]}})
        return {item["name"]: item["state_name"] for item in tasks}

    # The server records task runs with a delay.
    wait_for(
        lambda: states().items() >= {"train one": "Cancelled", "release one": "NotReady"}.items()
    )


def test_a_line_of_a_dask_worker_is_in_the_log_of_the_step_that_it_works_for(
    deployed: Prefect, worker: TreeProcess, tmp_path: Path
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
    run = deployed.run("pipeline/example-pipeline", recipe=value, until="acquire")
    wait_for(lambda: deployed.state(run) == "COMPLETED")

    def lines() -> list[dict[str, Any]]:
        of_run = {"flow_run_id": {"any_": [run]}}
        logs = deployed.post("/logs/filter", logs=of_run, limit=200)
        return [line for line in logs if LINE in line["message"]]

    line = wait_for(lines)[0]
    assert line["name"] == "tasks.noisy"
    assert deployed.get(f"/task_runs/{line['task_run_id']}")["name"] == "acquire dump"


def test_a_network_error_costs_an_attempt(prefect: Prefect, tmp_path: Path) -> None:
    value = recipe(tmp_path / "data", mixed(tmp_path / "in", 20), cluster={"workers": 0})
    path = write_recipe(tmp_path / "r.yaml", value)
    command = [sys.executable, "-m", "tests.e2e.flaky", str(path)]
    result = run_to_end(command, prefect.env, ROOT)
    assert result.code == 0, result.out + result.err
    assert path.with_suffix(".tried").exists()

    def completed_retries() -> list[dict[str, Any]]:
        runs = prefect.post("/task_runs/filter", task_runs={"name": {"any_": ["acquire dump"]}})
        return [
            item for item in runs if item["state_type"] == "COMPLETED" and item["run_count"] == 2
        ]

    wait_for(completed_retries)
