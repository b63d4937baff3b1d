"""Save the training state at intervals, at the end and when training stops early."""

from lm.checkpoint.manager import CheckpointManager
from lm.config.train import TrainConfig
from lm.metrics.meter import TrainingMetrics
from lm.train.callbacks.base import Callback, Line
from lm.train.callbacks.loss_spike import LossSpikeDetector
from lm.train.state import State


class Checkpointing(Callback):
    """Save checkpoints, with the last line of the log and the losses of the spike detector."""

    def __init__(
        self,
        config: TrainConfig,
        manager: CheckpointManager,
        state: State,
        metrics: TrainingMetrics,
        detector: LossSpikeDetector,
    ) -> None:
        """Save ``state`` with ``manager``; ``metrics`` count the time that it takes."""
        self._steps, self._interval = config.steps, config.run.checkpoint_interval
        self._manager, self._state = manager, state
        self._metrics, self._detector = metrics, detector

    def on_log(self, line: Line) -> None:
        """Save if it is time to; wait for the last checkpoint of a run."""
        step = line["step"]
        is_last = step == self._steps or "stopped" in line
        if is_last or step % self._interval == 0:
            metadata = {"line": line, "losses": self._detector.losses}
            with self._metrics.timed("checkpoint"):
                self._manager.save(
                    step, self._state, metadata, self._metrics.step_seconds, wait=is_last
                )

    def __exit__(self, *_: object) -> None:
        """Leave some time to the checkpoint that is being written."""
        self._manager.close()
