"""A real Prefect server and worker: deploy, reject a wrong recipe, run, and query the API."""

import json
import os
import signal
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from infra.registry.history import load_history
from infra.store.storage import Storage
from tests.e2e.command import GRISTMILL, PREFECT, environment, run_to_end, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.e2e.prefect_server import Prefect
from tests.e2e.ui_pictures import take_pictures
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import ROOT, TreeProcess, kill_tree, process_tree
from tests.servers import free_port, server
from tests.train_entry import train_entry

pytestmark = pytest.mark.e2e

FLOWS = "refresh corpus retrain evaluate remove housekeeping pipeline".split()


def runs(prefect: Prefect) -> set[str]:
    """Return the ids of all runs that the schedule did not create."""
    runs = prefect.post("/flow_runs/filter", limit=200)
    return {item["id"] for item in runs if not item["auto_scheduled"]}


def parameters_json(value: dict[str, Any]) -> str:
    return json.dumps({"recipe": value})


def file_times(store: Path) -> dict[Path, int]:
    """Return the files of a store with the times of their last changes."""
    return {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


def small_model(tmp_path: Path) -> dict[str, Any]:
    """Return a recipe with two models: one trains in a process of its own, one is counted."""
    return recipe(
        tmp_path / "data",
        mixed(tmp_path / "in"),
        train=[
            train_entry(
                precision="fp32",
                name="tiny",
                num_layers=1,
                hidden_size=32,
                num_heads=2,
                context_length=64,
                train_tokens=20_000,
                num_processes=1,
                log_interval=1,
            ),
            {"name": "kneser", "family": "ngram"},
        ],
        evaluate={},
        release={
            "models": ["tiny"],
            "gates": ["bits_per_byte < 100", "bits_per_byte <= champion"],
            "on_pass": "hold",
        },
    )


def materializations(prefect: Prefect) -> list[tuple[str, set[str]]]:
    """Return each materialization of an asset, with the assets that it was made from."""
    names = {"event": {"name": ["prefect.asset.materialization.succeeded"]}}
    events = prefect.post("/events/filter", filter=names, limit=50)["events"]
    return [
        (
            event["resource"]["prefect.resource.id"],
            {
                related["prefect.resource.id"]
                for related in event["related"]
                if related["prefect.resource.role"] == "asset"
            },
        )
        for event in events
    ]


def test_deployments_have_the_schedule_of_the_file(deployed: Prefect) -> None:
    by_name = {item["name"]: item for item in deployed.post("/deployments/filter")}
    expected = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert by_name.keys() == {item["name"] for item in expected}
    (schedule,) = by_name["example-refresh"]["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    for deployment in by_name.values():
        assert deployment["enforce_parameter_schema"]
        assert deployment["pull_steps"] == [], "no folder of the host that deployed"
        assert str(ROOT) not in json.dumps(deployment)


def test_deploying_a_recipe_twice_registers_it_once(prefect: Prefect, tmp_path: Path) -> None:
    value = {**small_model(tmp_path), "name": "mill", "storage": "${MILL_STORE:-./mill}"}
    schedule = {"timezone": "Europe/Berlin", "refresh": "0 2 * * *"}
    value["schedule"] = {**schedule, "housekeeping": "0 5 * * 0"}
    path = write_recipe(tmp_path / "r.yaml", value)

    def deploy(deployments: str, automations: str) -> dict[str, dict[str, Any]]:
        result = run_to_end([str(GRISTMILL), "deploy", str(path), "--json"], prefect.env, tmp_path)
        assert result.code == 0, result.err
        assert len(result.value["deployments"]) == 7
        assert {item["applied"] for item in result.value["deployments"]} == {deployments}
        assert set(result.value["automations"].values()) == {automations}
        found = prefect.post("/deployments/filter", deployments={"tags": {"all_": ["mill"]}})
        changing = {"updated", "last_polled", "status"}
        return {d["name"]: {k: v for k, v in d.items() if k not in changing} for d in found}

    first = deploy("created", "created")
    assert first.keys() == {f"mill-{name}" for name in FLOWS}
    for deployment in first.values():
        assert deployment["parameters"]["recipe"] == value
        assert deployment["job_variables"]["working_dir"] == str(tmp_path)
    (refresh,) = first["mill-refresh"]["schedules"]
    assert refresh["schedule"]["timezone"] == "Europe/Berlin"
    pause = f"{prefect.api}/deployments/{first['mill-refresh']['id']}/schedules/{refresh['id']}"
    httpx.patch(pause, json={"active": False}, timeout=WAIT_TIMEOUT_S).raise_for_status()
    value["schedule"] = schedule
    write_recipe(path, value)
    second = deploy("updated", "unchanged")
    assert [item["active"] for item in second["mill-refresh"]["schedules"]] == [False]
    assert second["mill-housekeeping"]["schedules"] == []
    assert {name: d["id"] for name, d in second.items()} == {n: d["id"] for n, d in first.items()}
    assert deploy("unchanged", "unchanged") == second


@pytest.mark.parametrize(
    ("section", "value", "word"),
    [("dedup", {"bands": "many"}, "bands"), ("selekt", {}, "selekt")],
)
def test_a_wrong_recipe_is_rejected_before_a_run_is_created(
    deployed: Prefect, tmp_path: Path, section: str, value: Any, word: str
) -> None:
    before = runs(deployed)
    wrong = {**small_model(tmp_path), section: value}
    rejected = deployed.command(
        "deployment", "run", "pipeline/example-pipeline", "--params", parameters_json(wrong)
    )
    assert rejected.code != 0
    assert word in rejected.out + rejected.err
    assert runs(deployed) == before


def test_status_shows_the_next_scheduled_runs(deployed: Prefect, tmp_path: Path) -> None:
    deployment = deployed.get("/deployments/name/pipeline/example-pipeline")
    value = small_model(tmp_path)
    for days in (2, 1):
        time = datetime.now(UTC) + timedelta(days=days)
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": time.isoformat()}}
        path = f"/deployments/{deployment['id']}/create_flow_run"
        deployed.post(path, parameters={"recipe": value}, state=state)
    file = write_recipe(tmp_path / "small.yaml", value)
    shown = run_to_end([str(GRISTMILL), "status", str(file), "--json"], deployed.env)
    assert shown.code == 0, shown.err
    scheduled = shown.value["scheduled"]
    assert scheduled["error"] is None
    times = [datetime.fromisoformat(run["time"]) for run in scheduled["runs"]]
    assert len(times) == 2
    assert times == sorted(times)
    assert {(run["recipe"], run["deployment"]) for run in scheduled["runs"]} == {
        ("small", "example-pipeline")
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the input and the store of the run below."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def run_id(deployed: Prefect, worker: TreeProcess, store: Path) -> str:
    """A completed run of a deployment, which was paused for a decision about a model."""
    run = deployed.run("pipeline/example-pipeline", recipe=small_model(store))
    wait_for(lambda: deployed.state(run) in ("PAUSED", "FAILED", "CRASHED", "COMPLETED"))
    assert deployed.state(run) == "PAUSED"
    missing = deployed.post(f"/flow_runs/{run}/resume", run_input={"decision": "approve"})
    assert missing["status"] == "REJECT", "who and why are missing"
    decision = {"decision": "approve", "by": "ann", "reason": "read the samples"}
    deployed.post(f"/flow_runs/{run}/resume", run_input=decision)
    wait_for(lambda: deployed.state(run) == "COMPLETED")
    return run


def test_a_run_of_a_worker_publishes_its_artifacts(
    deployed: Prefect, run_id: str, store: Path
) -> None:
    expected = {
        *("acquire dump", "annotate dump", "dedup", "select", "tokenize", "index"),
        *("train tiny", "release tiny", "evaluate tiny"),
        *("train kneser", "release kneser", "evaluate kneser"),
    }

    def task_states() -> list[tuple[str, str]]:
        tasks = deployed.post("/task_runs/filter", task_runs={"flow_run_id": {"any_": [run_id]}})
        return sorted((item["name"], item["state_type"]) for item in tasks)

    # The server records task runs with a delay.
    tasks = [*expected, "gate tiny"]
    wait_for(lambda: task_states() == sorted((name, "COMPLETED") for name in tasks))
    artifacts = deployed.post("/artifacts/filter", limit=200)
    keys = {item["key"]: item for item in artifacts if item["type"] != "progress"}
    # The dashboard's link went when the run ended, and with it the cluster.
    names = ("funnel", "loss", "leaderboard", "evaluation", "samples", "lineage", "gates", "report")
    assert set(keys) == {f"small-{name}" for name in names}
    assert len(artifacts) == len({item["key"] for item in artifacts}), "updated in place"
    assert {item["flow_run_id"] for item in artifacts} == {run_id}
    funnel = {row["step"]: row for row in json.loads(keys["small-funnel"]["data"])}
    assert list(funnel)[:4] == ["acquire dump", "annotate dump", "dedup", "select"]
    assert set(funnel) == expected
    assert funnel["acquire dump"]["failed"] == 3
    assert "bad_json 1" in funnel["acquire dump"]["reasons"]
    assert keys["small-loss"]["data"].startswith("data:image/svg+xml;base64,")
    (overall, *_) = json.loads(keys["small-evaluation"]["data"])
    assert {"held-out text", "documents", "3-gram", "tiny", "kneser"} <= overall.keys()
    board = json.loads(keys["small-leaderboard"]["data"])
    assert {row["model"] for row in board} == {"tiny", "kneser", "3-gram", "unigram"}
    assert [row["bits per byte"] for row in board] == sorted(row["bits per byte"] for row in board)
    gates = json.loads(keys["small-gates"]["data"])
    assert [(row["gate"], row["result"]) for row in gates] == [
        ("bits_per_byte < 100", "passed"),
        ("bits_per_byte <= champion", "passed"),
    ]
    assert "**tiny** continues:" in keys["small-samples"]["data"]
    assert "| tokenize | select |" in keys["small-lineage"]["data"]
    assert "small: completed in " in keys["small-report"]["data"]
    assert "| acquire | bad_json | failed | 1 |" in keys["small-report"]["data"]
    lines = [
        line["message"]
        for line in deployed.post("/logs/filter", logs={"flow_run_id": {"any_": [run_id]}})
    ]
    assert {line.partition(":")[0] for line in lines if " kept" in line} == expected
    segment, corpus, tokens = (
        f"gristmill://small/{name}" for name in ("segments/dump", "corpus", "tokens")
    )
    models = {name: f"gristmill://small/models/{name}" for name in ("tiny", "kneser")}
    # The server stores events in batches, some seconds after they were sent.
    wait_for(lambda: len(materializations(deployed)) == 7)
    assert dict(materializations(deployed)) == {
        segment: set(),
        corpus: {segment},
        tokens: {corpus},
        **{model: {tokens} for model in models.values()},
        **{
            f"gristmill://small/evaluations/{name}": {model, tokens}
            for name, model in models.items()
        },
    }
    (record,) = (store / "data" / "runs" / "small").glob("*.json")
    run_record = json.loads(record.read_text())
    assert {model["name"] for model in run_record["models"]} == {"tiny", "kneser"}
    assert all(model["metrics"]["bits_per_byte"] > 0 for model in run_record["models"])
    page = (store / "data" / run_record["report"]).read_text()
    assert "kneser" in page
    [held, promoted] = load_history(Storage(str(store / "data")), "small")
    assert (held.alias, promoted.alias) == ("challenger", "champion")
    assert (promoted.by, promoted.reason) == ("ann", "read the samples")
    path = run_record["report"].removeprefix("reports/")
    assert f"](https://reports.example.org/{path})" in keys["small-report"]["data"]


def test_a_run_that_finds_everything_says_what_was_cached(
    deployed: Prefect, run_id: str, store: Path
) -> None:
    path = write_recipe(store / "recipe.yaml", small_model(store))
    before = file_times(store / "data")
    again = run_to_end([str(GRISTMILL), "run", str(path)], deployed.env)
    assert again.code == 0, again.out + again.err
    after = file_times(store / "data")
    (record,) = after.keys() - before.keys()
    assert record.parent == store / "data" / "runs" / "small"
    assert {file: after[file] for file in before} == before, "nothing but the record is written"
    assert str(store / "data" / json.loads(record.read_text())["report"]) == again.out.strip()
    completed = {"state": {"type": {"any_": ["COMPLETED"]}}}
    latest, first = deployed.post("/flow_runs/filter", flow_runs=completed, sort="START_TIME_DESC")
    assert first["id"] == run_id
    of_run = {"flow_run_id": {"any_": [latest["id"]]}}

    def states() -> set[str]:
        return {item["state_name"] for item in deployed.post("/task_runs/filter", task_runs=of_run)}

    wait_for(lambda: states() == {"Cached"})
    artifacts = deployed.post("/artifacts/filter", artifacts=of_run)
    pages = {item["key"]: item["data"] for item in artifacts}
    assert "Cached: 12 of 12 steps." in pages["small-report"]
    assert {row["time"] for row in json.loads(pages["small-funnel"])} == {"cached"}
    samples = deployed.post("/artifacts/filter", artifacts={"key": {"any_": ["small-samples"]}})
    assert [item["flow_run_id"] for item in samples] == [latest["id"]], "only the latest are kept"
    assert len(materializations(deployed)) == 7, "nothing was materialized again"


def test_the_pages_of_the_ui_show_the_run(
    deployed: Prefect, run_id: str, store: Path, tmp_path: Path
) -> None:
    """Open the pages in a browser; ``GRISTMILL_SCREENSHOTS`` names the folder of the pictures."""
    path = write_recipe(store / "recipe.yaml", small_model(store))
    registered = run_to_end([str(GRISTMILL), "deploy", str(path)], deployed.env)
    assert registered.code == 0, registered.out + registered.err
    folder = Path(os.environ.get("GRISTMILL_SCREENSHOTS") or tmp_path)
    pictures = take_pictures(deployed, run_id, folder)
    assert all(picture.stat().st_size > 10_000 for picture in pictures)


def test_runs_end_although_their_server_was_killed(tmp_path: Path) -> None:
    """The server is killed while stages run: it stops neither the work nor the exit of the processes."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    env = environment(tmp_path / "home")
    command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    complete = recipe(tmp_path / "complete", mixed(tmp_path / "in"))
    fail = recipe(tmp_path / "fail", tmp_path / "in")
    fail["select"].update(max_source_duplicate_fraction=0.0, min_source_documents=1)

    def start(value: dict[str, Any]) -> TreeProcess:
        store = Path(value["storage"])
        path = write_recipe(store.with_suffix(".yaml"), value)
        run_env = {**env, "PREFECT_API_URL": api}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        run = process_tree([str(GRISTMILL), "run", str(path)], run_env, **pipes)
        return stack.enter_context(run)

    def has_acquired(store: Path) -> bool:
        return any((store / "unit_cache").glob("acquire/*/*.json"))

    def end(run: TreeProcess, store: Path) -> tuple[dict[str, Any], str, str]:
        out, err = (output.decode() for output in run.communicate(timeout=WAIT_TIMEOUT_S))
        wait_for(lambda: not run.members())
        (file,) = (store / "runs" / "small").glob("*.json")
        record: dict[str, Any] = json.loads(file.read_text())
        assert (store / record["report"]).exists()
        assert "Traceback" not in err
        return record, out, err

    with (
        server(command, tmp_path / "server.log", f"{api}/health", env) as prefect_server,
        ExitStack() as stack,
    ):
        runs = [start(value) for value in (complete, fail)]
        for run, name in zip(runs, ("complete", "fail"), strict=True):
            wait_for(partial(has_acquired, tmp_path / name), run)
            run.send_signal(signal.SIGSTOP)  # it must not end before the server
        kill_tree(prefect_server.tree)
        for run in runs:
            run.send_signal(signal.SIGCONT)
        record, out, err = end(runs[0], tmp_path / "complete")
        assert record["state"] == "completed"
        assert record["stages"][-1]["stage"] == "index"
        assert runs[0].returncode == 0, err
        assert out.strip() == f"{tmp_path}/complete/{record['report']}"
        assert "no longer answers" in err
        record, _, err = end(runs[1], tmp_path / "fail")
        assert record["state"] == "failed"
        assert runs[1].returncode == 1
        assert "error: select: " in err
