"""A recipe that lives on a server: a refresh leads to a corpus and a training, whatever dies meanwhile."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from flows.events import BUDGET_EXCEEDED, MODEL_OUTDATED
from tests.e2e.command import GRISTMILL, run_to_end, write_recipe
from tests.e2e.conftest import run_worker
from tests.e2e.corpora import mixed, recipe
from tests.e2e.endless import TRAINER, find
from tests.e2e.prefect_server import Prefect
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import kill_tree
from tests.servers import http_server
from tests.train_entry import train_entry

pytestmark = pytest.mark.e2e

HEARTBEAT_TIMEOUT_S = 45  # more than one heartbeat, which comes every 30 seconds


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """Serve a webhook; yield its URL and the texts that it got."""
    texts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            texts.append(json.loads(body)["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http_server(Handler) as address:
        yield f"http://{address}/hook", texts


def small_recipe(tmp_path: Path) -> dict[str, Any]:
    value = recipe(tmp_path / "data", mixed(tmp_path / "in"), cluster={"workers": 0})
    model = train_entry(
        precision="fp32",
        name="tiny",
        num_layers=1,
        hidden_size=16,
        num_heads=1,
        context_length=64,
        train_tokens=10_000,
        num_processes=1,
    )
    return {**value, "name": "mill", "train": [model], "evaluate": {}}


def automations(prefect: Prefect) -> dict[str, Any]:
    return {item["name"]: item for item in prefect.post("/automations/filter")}


def shorten_heartbeat_timeout(prefect: Prefect) -> None:
    """Let a run count as lost after 45 s; two minutes are a long time for a test."""
    lost = automations(prefect)["gristmill: lost runs"]
    lost["trigger"]["within"] = HEARTBEAT_TIMEOUT_S
    keys = ("name", "description", "enabled", "trigger", "actions", "tags")
    url = f"{prefect.api}/automations/{lost['id']}"
    body = {key: lost[key] for key in keys}
    httpx.put(url, json=body, timeout=WAIT_TIMEOUT_S).raise_for_status()


def test_a_refresh_leads_to_a_trained_model_although_worker_and_run_are_killed(
    prefect: Prefect, tmp_path: Path
) -> None:
    path = write_recipe(tmp_path / "r.yaml", small_recipe(tmp_path))

    def run_of(flow: str) -> dict[str, Any] | None:
        found = prefect.post("/flow_runs/filter", flows={"name": {"any_": [flow]}})
        assert len(found) <= 1, "nothing is done twice"
        return found[0] if found else None

    def completed(flow: str) -> dict[str, Any] | None:
        run = run_of(flow)
        assert run is None or run["state_type"] != "FAILED", run
        return run if run is not None and run["state_type"] == "COMPLETED" else None

    with webhook() as (url, texts):
        command = [str(GRISTMILL), "deploy", str(path), "--notify", url]
        deployed = run_to_end(command, prefect.env, tmp_path)
        assert deployed.code == 0, deployed.err
        shorten_heartbeat_timeout(prefect)
        prefect.run("refresh/mill-refresh", reason="a test")
        with run_worker(prefect.env, tmp_path / "first.log") as worker:
            wait_for(lambda: find(worker.members(), TRAINER), poll_interval_s=0.5)
            kill_tree(worker.tree)
        run = run_of("retrain")
        assert run is not None
        assert run["state_type"] == "RUNNING", "nobody told the server"

        def states() -> list[str]:
            return [s["type"] for s in prefect.get(f"/flow_run_states/?flow_run_id={run['id']}")]

        wait_for(lambda: "CRASHED" in states(), poll_interval_s=1.0)
        with run_worker(prefect.env, tmp_path / "second.log"):
            retrained = wait_for(lambda: completed("retrain"), poll_interval_s=1.0)
        assert retrained["run_count"] == 2
        assert retrained["id"] == run["id"]
        assert retrained["name"] == "retrain mill: no model is trained yet"
        wait_for(lambda: any("Crashed" in text for text in texts))

    assert {flow for flow in ("refresh", "corpus", "retrain") if completed(flow)} == {
        "refresh", "corpus", "retrain"
    }  # fmt: skip

    def emitted() -> list[dict[str, Any]]:
        chosen = {"event": {"prefix": ["gristmill."]}, "order": "ASC"}
        found: list[dict[str, Any]] = prefect.post("/events/filter", filter=chosen)["events"]
        return found

    # The server stores events in batches, some seconds after they were sent.
    wait_for(lambda: "gristmill.model.evaluated" in {item["event"] for item in emitted()})
    events = emitted()
    assert [item["event"].removeprefix("gristmill.") for item in events] == [
        "segment.acquired",
        "corpus.outdated",
        "corpus.published",
        "model.outdated",
        "model.trained",
        "model.evaluated",
    ]
    assert {item["resource"]["prefect.resource.id"] for item in events} == {"gristmill.recipe.mill"}
    published = events[2]["payload"]
    assert published["new_documents"] == published["documents"] > 0
    assert published["retrain_due"]
    records = {
        record["flow"]: record
        for file in sorted((tmp_path / "data" / "runs" / "mill").glob("*.json"))
        for record in [json.loads(file.read_text())]
    }
    assert records["refresh"]["reason"] == "a test"
    assert records["corpus"]["retrain_reason"] == records["retrain"]["reason"]
    assert records["retrain"]["retrain_reason"] is None


def test_events_from_outside_start_a_training_and_notify(prefect: Prefect, tmp_path: Path) -> None:
    source = {"name": "a", "kind": "documents", "paths": ["/in/*.jsonl"]}
    value = {"name": "outside", "storage": "/srv/store", "sources": [source]}
    path = write_recipe(tmp_path / "r.yaml", value)
    command = [str(GRISTMILL), "deploy", str(path), "--pool-type", "docker"]  # nobody runs it
    resource = {
        "prefect.resource.id": "gristmill.recipe.outside",
        "prefect.resource.name": "outside",
    }
    events = [
        {
            "event": name,
            "resource": resource,
            "payload": payload,
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
        }
        for name, payload in (
            (MODEL_OUTDATED, {}),
            (BUDGET_EXCEEDED, {"reason": "the store holds 2 kB"}),
        )
    ]

    def retrained() -> list[dict[str, Any]]:
        names = {"name": {"any_": ["outside-retrain"]}}
        found: list[dict[str, Any]] = prefect.post("/flow_runs/filter", deployments=names)
        return found

    with webhook() as (url, texts):
        deployed = run_to_end([*command, "--notify", url], prefect.env, tmp_path)
        assert deployed.code == 0, deployed.err
        answer = httpx.post(f"{prefect.api}/events", json=events, timeout=WAIT_TIMEOUT_S)
        answer.raise_for_status()
        (run,) = wait_for(retrained)
        assert run["parameters"]["reason"] == MODEL_OUTDATED
        wait_for(lambda: any("outside: the store holds 2 kB" in text for text in texts))
