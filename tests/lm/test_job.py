"""A job passes from task to launcher to workers as a file."""

from pathlib import Path

from infra.store.storage import Storage
from lm.train.job import TrainJob
from tests.lm.corpora import tiny


def test_a_job_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    job = TrainJob(
        config=tiny(keep_last=3),
        seed=7,
        tokens=Storage(str(tmp_path / "tokens")),
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
