"""What ``${NAME}`` in a recipe stands for is in no file of a run."""

from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster_config import KWARGS_ENV
from tests.acquire.sites import Reply, Site, serve
from tests.caches import make_cache
from tests.e2e.command import gristmill, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.train_entry import train_entry

pytestmark = pytest.mark.e2e

VARIABLES = {
    "CLUSTER_TOKEN": "first-s3cret",
    "FILES_SIGNATURE": "second-s3cret",
    "TRACKING_PASSWORD": "third-s3cret",
}


def with_secrets(folder: Path, site: Site) -> dict[str, Any]:
    """Return a recipe with a secret in every field that gives access to something."""
    train = train_entry(
        precision="fp32",
        name="m",
        num_layers=1,
        hidden_size=16,
        num_heads=2,
        context_length=32,
        train_tokens=4096,
        num_processes=1,
        mlflow_tracking_uri="http://trainer:${TRACKING_PASSWORD}@127.0.0.1:9",
    )
    cluster_kwargs = {
        "n_workers": 1,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "env": {"TOKEN": "${CLUSTER_TOKEN}"},
    }
    value = recipe(
        folder / "store",
        mixed(folder / "in"),
        train=[train],
        cluster={"cluster_class": "distributed.LocalCluster", "cluster_kwargs": cluster_kwargs},
    )
    url = f"{site.url}/docs.jsonl?sig=${{FILES_SIGNATURE}}"
    value["sources"].append({"name": "remote", "kind": "documents", "paths": [url]})
    return value


def files_with_secrets(*folders: Path) -> list[str]:
    """Return the files that have the value of a variable, with its name."""
    values = {name: value.encode() for name, value in VARIABLES.items()}
    return [
        f"{path} has the value of {name}"
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
        for name, value in values.items()
        if value in path.read_bytes()
    ]


def test_no_file_and_no_line_of_a_run_has_a_secret(tmp_path: Path) -> None:
    line = b'{"text": "' + b"All that is needed is some text that is long enough. " * 8 + b'"}\n'
    pages = {"/docs.jsonl?sig=second-s3cret": Reply(line, content_type="application/json")}
    home, cache = tmp_path / "home", tmp_path / "cache"
    env = {
        **VARIABLES,
        "GRISTMILL_CACHE": str(cache),
        "GRISTMILL_CLUSTER_KWARGS": "host,dashboard_address,env",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        KWARGS_ENV: "host,dashboard_address,env",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "cli,flows,views,serve,tasks,lm,infra",
    }
    make_cache(cache)
    with serve(Site(pages)) as site:
        path = write_recipe(tmp_path / "r.yaml", with_secrets(tmp_path, site))
        run = gristmill(home, "run", str(path), env=env)
        assert run.code == 0, run.err
    assert "s3cret" not in run.out + run.err
    failed = gristmill(home, "run", str(path), "--set", "sources.remote.snapshot=b", env=env)
    assert failed.code == 1  # the server has ended
    assert "sig=${FILES_SIGNATURE}" in failed.err
    assert "s3cret" not in failed.out + failed.err
    assert any(cache.rglob("*.json"))
    assert (home / "prefect.db").exists()
    assert files_with_secrets(tmp_path / "store", home, cache) == []
    (record,) = (tmp_path / "store").glob("runs/*/*.json")
    for name in ("CLUSTER_TOKEN", "FILES_SIGNATURE", "TRACKING_PASSWORD"):
        assert f"${{{name}}}" in record.read_text()
