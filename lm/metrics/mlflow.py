"""Log metrics to an MLflow server, in addition to ``metrics.jsonl``.

A separate thread sends them, so that no step waits for the server. If it does not answer, a single
warning is logged and training continues: ``metrics.jsonl`` has every line.
"""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

from infra.errors import UserError
from infra.store.environment import mask

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

EXPERIMENT = "gristmill"
TAG = "gristmill.run"  # identifies the MLflow run after a restart
MAX_PARAM_LENGTH = 6000  # characters; MLflow's own limit
CLOSE_TIMEOUT_S = 30.0  # that the end of a training run waits for the server

Line = Mapping[str, Any]


def require_mlflow(entry: str) -> None:
    """Raise ``UserError`` if the package is missing for this entry, such as ``train.tiny``."""
    if find_spec("mlflow") is None:
        raise UserError(
            f"{entry}.run.mlflow_tracking_uri: mlflow is not installed; "
            "run pip install 'gristmill[mlflow]'"
        )


class MlflowLogger:
    """Logs one training run as one MLflow run, also after a crash."""

    def __init__(self, uri: str, name: str, key: str, parameters: Mapping[str, Any]) -> None:
        """Start the thread; ``key`` identifies the training run ``name`` after a restart."""
        self._lines: Queue[Line | None] = Queue()
        self._uri, self._name, self._key, self._parameters = uri, name, key, parameters
        self._failed = False
        self._thread = Thread(target=self._send_loop, name="mlflow", daemon=True)
        self._thread.start()

    def write(self, line: Line) -> None:
        """Send a line of the log. Does not wait."""
        self._lines.put(line)

    def close(self, *, failed: bool) -> None:
        """Send the final status; wait for the server up to ``CLOSE_TIMEOUT_S``."""
        self._failed = failed
        self._lines.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            log.warning(
                "MLflow at %s does not answer; metrics.jsonl has all lines", mask(self._uri)
            )

    def _send_loop(self) -> None:
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient

        try:
            client = MlflowClient(tracking_uri=self._uri)
            run = self._open_run(client)
            while (line := self._lines.get()) is not None:
                timestamp_ms, step = int(1000 * line["clock"]), int(line["step"])
                metrics = [
                    Metric(name, float(value), timestamp_ms, step)
                    for name, value in line.items()
                    if name not in ("step", "clock") and isinstance(value, int | float)
                ]
                client.log_batch(run.info.run_id, metrics=metrics)
            client.set_terminated(run.info.run_id, "FAILED" if self._failed else "FINISHED")
        except Exception as error:  # noqa: BLE001 - training continues without the server
            log.warning(
                "MLflow at %s: %s; metrics.jsonl has all lines", mask(self._uri), mask(str(error))
            )

    def _open_run(self, client: "MlflowClient") -> "Run":
        existing = client.get_experiment_by_name(EXPERIMENT)
        experiment = existing.experiment_id if existing else client.create_experiment(EXPERIMENT)
        for run in client.search_runs([experiment], f"tags.`{TAG}` = '{self._key}'", max_results=1):
            client.update_run(run.info.run_id, status="RUNNING")
            return run
        run = client.create_run(experiment, tags={TAG: self._key}, run_name=self._name)
        for name, value in self._parameters.items():
            client.log_param(run.info.run_id, name, str(value)[:MAX_PARAM_LENGTH])
        return run
