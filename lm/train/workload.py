"""What the training loop asks of the thing that is trained: a model, its batches, its files."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from lm.data.loader import Batch
from lm.models.neural_lm import TrainableModel
from lm.objectives.examples import Objective, Rows
from lm.train.job import TrainJob
from lm.train.state import Weights


class Loader(Iterator[Batch], Protocol):
    """Yields a process's batches of consecutive steps."""

    def close(self) -> None:
        """Release what it holds."""


class Workload(Protocol):
    """Pre-training (``lm.train.pretraining``) or fine-tuning (``lm.train.finetuning``).

    Attributes:
        eos: the id that divides documents in a row (``TrainableModel.forward``); ``None``: none does.
    """

    eos: int | None

    def build_model(self) -> TrainableModel:
        """Return the model with the weights that the training starts from, on the CPU."""

    def build_objective(self, model: TrainableModel, *, training: bool) -> Objective:
        """Return how rows become what the model reads and predicts, in training or validation."""

    def held_out_rows(self) -> Rows:
        """Return the rows of the validation loss, the same on every process; there may be none."""

    def warm_up_rows(self, count: int) -> Rows:
        """Return rows of the shape of a process's pass."""

    def build_loader(self, rank: int, world_size: int, start_step: int) -> Loader:
        """Return the loader of one process, from a step on."""

    def save(self, weights: Weights, folder: Path) -> dict[str, Any]:
        """Write the files of the trained model; return what the launcher's result says of it."""


def open_workload(job: TrainJob) -> Workload:
    """Return what a job trains.

    It is imported by name, so that the code version of the stage `train` does not cover fine-tuning: each
    stage names its own as a root module.
    """
    module = import_module(f"lm.train.{job.config.workload}")
    return cast("Workload", module.open_workload(job))
