"""The pipeline on S3: the same bytes as on a local disk, written by Dask workers."""

import uuid
from pathlib import Path

import pytest

from infra.store.storage import Storage
from tests.e2e.command import gristmill, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.inline import data_bytes, go
from tests.servers import S3

pytestmark = pytest.mark.e2e


def test_a_run_on_s3_gives_the_bytes_of_a_local_run(home: Path, s3: S3, tmp_path: Path) -> None:
    corpus = mixed(tmp_path / "in")
    go(recipe(tmp_path / "local", corpus), until="index")
    root = f"s3://{s3.bucket}/{uuid.uuid4().hex}"
    path = write_recipe(tmp_path / "r.yaml", recipe(root, corpus))
    result = gristmill(home, "run", str(path), "--json", env=s3.env)
    assert result.code == 0, result.err
    assert result.value["report"].startswith(root)
    expected = data_bytes(tmp_path / "local")
    store = Storage(root)
    names = [
        name
        for name in store.list_files()
        if name.split("/")[0] not in ("runs", "reports", "unit_cache")
    ]
    assert {name: store.read(name) for name in names} == expected
    again = gristmill(home, "run", str(path), env=s3.env)
    assert "nothing to do" in again.err
    assert gristmill(home, "verify", str(path), env=s3.env).code == 0
    unreachable = {**s3.env, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    refused = gristmill(home, "plan", str(path), env=unreachable)
    assert refused.code != 0
    assert "Traceback" not in refused.err
