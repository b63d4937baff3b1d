"""Write the log: ``metrics.jsonl``, TensorBoard, the launcher and, if asked for, MLflow."""

from infra.config import flatten_sections
from infra.dataset.fingerprint import json_sha256
from lm.metrics.goodput import record_attempt
from lm.metrics.logger import MetricsLogger
from lm.metrics.mlflow import MlflowLogger
from lm.train.callbacks.base import Callback, Line
from lm.train.job import TrainJob


class MetricsLog(Callback):
    """Write each line of the log; only the first process has this callback."""

    def __init__(self, job: TrainJob, start_step: int, world_size: int) -> None:
        """Record the attempt, and open the log without the lines after ``start_step``."""
        record_attempt(job.folder, start_step, world_size)  # before lines are removed
        config, mlflow_logger = job.config, None
        if uri := config.run.mlflow_tracking_uri:
            key = json_sha256([config.name, dict(job.compatibility_key)])
            mlflow_logger = MlflowLogger(uri, config.name, key, flatten_sections(config.to_json()))
        self._logger = MetricsLogger(job.folder, start_step, mlflow_logger)

    def on_log(self, line: Line) -> None:
        """Write the line."""
        self._logger.write(line)

    def __exit__(self, *error: object) -> None:
        """Close the log; MLflow shows whether the run failed."""
        self._logger.close(failed=error[0] is not None)
