from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from pydantic import ValidationError

from infra.errors import UserError
from infra.store.storage import Storage
from lm.metrics.logger import read_jsonl
from lm.metrics.mlflow import EXPERIMENT, require_mlflow
from lm.train.callbacks import MetricsLog
from lm.train.job import TrainJob
from lm.train.loop import train
from tests.lm.corpora import tiny, token_shards


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An MLflow store in files."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def test_a_resumed_training_is_one_mlflow_run(server: str, tmp_path: Path) -> None:
    tokens = token_shards(tmp_path / "store")
    job = TrainJob(
        tiny(mlflow_tracking_uri=server), 1337, tokens.storage, tmp_path / "run", {"tokens": "abc"}
    )
    _, last = train(job)
    (tmp_path / "run" / "checkpoints" / "step-000000010" / "complete.json").unlink()
    train(job)
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.num_layers"] == "2"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert {item.step: item.value for item in history} == {
        line["step"]: line["loss"] for line in read_jsonl(tmp_path / "run" / "metrics.jsonl")
    }
    assert run.data.metrics["validation_loss"] == last["validation_loss"]


def test_an_unreachable_server_does_not_stop_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tokens = token_shards(tmp_path / "store")
    job = TrainJob(
        tiny(mlflow_tracking_uri="http://127.0.0.1:9"), 1337, tokens.storage, tmp_path / "run"
    )
    train(job)
    assert len(read_jsonl(tmp_path / "run" / "metrics.jsonl")) == 10
    assert "MLflow at http://127.0.0.1:9" in caplog.text


def test_a_failed_training_has_the_status_failed(server: str, tmp_path: Path) -> None:
    job = TrainJob(tiny(mlflow_tracking_uri=server), 1337, Storage(str(tmp_path)), tmp_path)

    def interrupted() -> None:
        with MetricsLog(job, 0, 1) as callback:
            callback.on_log({"step": 1, "loss": 2.0, "clock": 1.0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.metrics) == ("FAILED", {"loss": 2.0})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm.metrics.mlflow.find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=r"train.tiny.run.mlflow_tracking_uri: .* pip install 'gristmill\[mlflow\]'"
    ):
        require_mlflow("train.tiny")


@pytest.mark.parametrize("uri", ["plugin://host", "my-store:x", "sftp://h/x"])
def test_a_scheme_that_is_not_one_of_mlflow_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="mlflow_tracking_uri"):
        tiny(mlflow_tracking_uri=uri)


@pytest.mark.parametrize(
    "uri", ["http://u:p@h:5000", "databricks", "sqlite:///m.db", "mysql+pymysql://h/m", "./mlruns"]
)
def test_the_schemes_of_mlflow_are_accepted(uri: str) -> None:
    assert tiny(mlflow_tracking_uri=uri).run.mlflow_tracking_uri == uri
