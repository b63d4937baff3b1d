"""A job passes from task to launcher to workers as a file."""

from pathlib import Path

import pytest

from infra.store.storage import Storage
from lm.models.registry import parse_entry
from lm.train.job import JOB_FILE, TrainJob
from tests.lm.corpora import tiny
from tests.train_entry import in_steps, train_entry


def test_a_job_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    job = TrainJob(
        config=tiny(keep_last=3),
        seed=7,
        data=Storage(str(tmp_path / "tokens")),
        folder=tmp_path / "run",
        compatibility_key={"shards": "abc", "skip": [[1, 2]]},
        base_model=Storage("memory://models/base"),
        checkpoint_url="memory://checkpoints",
        skip=((1, 2), (5, 9)),
        attempt_id="abc",
        is_first_node=False,
    )
    job.save()
    assert TrainJob.load(job.folder) == job
    minimal = TrainJob(tiny(), 1, Storage(str(tmp_path)), tmp_path)
    minimal.save()
    assert TrainJob.load(tmp_path) == minimal


def test_checkpoints_are_in_the_folder_unless_the_job_says_otherwise(tmp_path: Path) -> None:
    job = TrainJob(tiny(keep_last=3), 1, Storage(str(tmp_path)), tmp_path)
    assert job.checkpoint_store.storage.local_path() == tmp_path / "checkpoints"
    assert job.checkpoint_store.keep_last == 3


def test_a_job_file_has_references_where_the_recipe_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "s3cret/word")
    entry = train_entry(
        name="m",
        num_layers=1,
        hidden_size=16,
        num_heads=2,
        context_length=32,
        train_tokens=64,
        checkpoint_url="memory://${PASSWORD}/checkpoints",
        mlflow_tracking_uri="http://u:${PASSWORD}@host",
    )
    config = in_steps(parse_entry(entry))
    job = TrainJob(
        config,
        1,
        Storage("memory://u:s3cret%2Fword@store/tokens"),
        tmp_path,
        checkpoint_url=f"{config.run.checkpoint_url}/abc",
    )
    job.save()
    assert "s3cret" not in (tmp_path / JOB_FILE).read_text()
    loaded = TrainJob.load(tmp_path)
    assert loaded.config.run.mlflow_tracking_uri == "http://u:s3cret/word@host"
    assert loaded.checkpoint_url == "memory://s3cret/word/checkpoints/abc"
    monkeypatch.setenv("PASSWORD", "of this node")
    assert TrainJob.load(tmp_path).checkpoint_url == "memory://of this node/checkpoints/abc"
