"""What happens beside the updates of the training loop, one idea per callback.

This module does not import torch, which takes seconds: the launcher imports ``loss_spike``.
"""

import gc
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from infra.config import flatten_sections
from infra.dataset.fingerprint import json_sha256
from lm.metrics.goodput import record_attempt
from lm.metrics.logger import MetricsLogger
from lm.metrics.mlflow import MlflowLogger
from lm.train.job import TrainJob

if TYPE_CHECKING:
    from lm.checkpoint.manager import CheckpointManager
    from lm.metrics.meter import TrainingMetrics
    from lm.train.loss_spike import LossSpikeDetector
    from lm.train.state import State

GC_INTERVAL = 500  # steps

Line = dict[str, Any]  # a line of the log


class Callback:
    """Something that happens beside the updates; subclasses override the hooks that they need.

    All processes call the same hooks at the same step, in the order of the loop's list. The loop
    enters a callback before its first step and exits it, in reverse order, after its last one.
    """

    def after_step(self, step: int, *, applied: bool) -> None:
        """Run after a 0-based step; ``applied``: whether its update was, see ``LossScale``."""

    def on_metrics(self, line: Line, history: Sequence[tuple[float, float]]) -> None:
        """Run when metrics have been read, before a validation; may add to the line.

        Args:
            line: metrics of the steps since the last line.
            history: (loss in nats per token, gradient norm) of each of these steps.
        """

    def on_validation(self, line: Line) -> None:
        """Run after a validation; may add to the line. ``stopped`` in it ends the training."""

    def on_log(self, line: Line) -> None:
        """Run when the line is complete."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Release resources."""


class ManualGC(Callback):
    """Collect garbage at fixed steps, so that no process stops for it while the others wait."""

    def __enter__(self) -> Self:
        gc.collect()
        gc.freeze()
        gc.disable()
        return self

    def after_step(self, step: int, *, applied: bool) -> None:  # noqa: ARG002
        """Collect every ``GC_INTERVAL`` steps."""
        if (step + 1) % GC_INTERVAL == 0:
            gc.collect()

    def __exit__(self, *_: object) -> None:
        """Collect automatically again."""
        gc.enable()
        gc.unfreeze()


class WeightAveraging(Callback):
    """Update the exponential moving average of the weights after each update."""

    def __init__(self, state: "State", decay: float) -> None:
        self._state, self._decay = state, decay

    def after_step(self, step: int, *, applied: bool) -> None:
        """Move the average towards the new weights."""
        if applied:
            self._state.update_ema(self._decay, step)


class EarlyStopping(Callback):
    """Stop when the validation loss has not improved for a number of steps; keep the best weights.

    Prechelt 1998, "Early stopping, but when?".
    """

    def __init__(
        self, state: "State", patience_steps: int, min_delta: float, line: Mapping[str, Any]
    ) -> None:
        """Continue after a line of the log, which may be empty.

        Only a loss that is lower by more than ``min_delta`` nats per token is an improvement.
        """
        self._state, self._patience_steps, self._min_delta = state, patience_steps, min_delta
        # In every line after the first validation.
        keys = ("best_validation_loss", "best_step")
        self._best: Line = {name: line[name] for name in keys if name in line}

    def on_metrics(self, line: Line, history: Sequence[tuple[float, float]]) -> None:  # noqa: ARG002
        """Repeat the best validation so far."""
        line |= self._best

    def on_validation(self, line: Line) -> None:
        """Save the weights of a better validation; stop after too many that are not."""
        loss, step = line["validation_loss"], line["step"]
        if loss < self._best.get("best_validation_loss", math.inf) - self._min_delta:
            self._state.save_best()
            self._best = {"best_validation_loss": loss, "best_step": step}
            line |= self._best
        elif step - self._best["best_step"] >= self._patience_steps:
            line["stopped"] = "early"


class MetricsLog(Callback):
    """Write each line to ``metrics.jsonl``, TensorBoard, the launcher and, if asked for, MLflow.

    Only the first process has this callback.
    """

    def __init__(self, job: TrainJob, start_step: int, world_size: int) -> None:
        """Record the attempt, and open the log without the lines after ``start_step``."""
        record_attempt(job.folder, start_step, world_size)  # before lines are removed
        config, mlflow_logger = job.config, None
        if uri := config.run.mlflow_tracking_uri:
            key = json_sha256([config.name, dict(job.compatibility_key)])
            mlflow_logger = MlflowLogger(
                uri, config.name, key, flatten_sections(config.to_record())
            )
        self._logger = MetricsLogger(job.folder, start_step, mlflow_logger)

    def on_log(self, line: Line) -> None:
        """Write the line."""
        self._logger.write(line)

    def __exit__(self, *error: object) -> None:
        """Close the log; MLflow shows whether the run failed."""
        self._logger.close(failed=error[0] is not None)


class Checkpointing(Callback):
    """Save at intervals, at the end and when training stops early; ``metrics`` count the time."""

    def __init__(
        self,
        job: TrainJob,
        manager: "CheckpointManager",
        state: "State",
        metrics: "TrainingMetrics",
        detector: "LossSpikeDetector",
    ) -> None:
        self._job = job
        self._manager, self._state = manager, state
        self._metrics, self._detector = metrics, detector

    def on_log(self, line: Line) -> None:
        """Save if it is time to, with the line and the losses of the spike detector."""
        step = line["step"]
        is_last = step == self._job.config.steps or "stopped" in line
        if is_last or step % self._job.config.run.checkpoint_interval == 0:
            skip = [list(batches) for batches in self._job.skip]
            metadata = {"line": line, "losses": self._detector.losses, "skip": skip}
            with self._metrics.timed("checkpoint"):
                self._manager.save(
                    step, self._state, metadata, self._metrics.step_seconds, wait=is_last
                )

    def __exit__(self, *_: object) -> None:
        """Leave some time to the checkpoint that is being written."""
        self._manager.close()
