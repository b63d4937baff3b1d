"""Fine-tuning: a base model and the head of a task, trained on encoded examples."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load, save_file

from infra.dataset.dataset import open_dataset
from infra.errors import UserError
from lm.config.finetune import FinetuneConfig
from lm.data.example_loader import TRAIN_ROWS, VALIDATION_ROWS, ExampleLoader, load_rows
from lm.models.heads.config import parse
from lm.models.heads.model import FineTuned, build_finetuned, load_base, reference_outputs
from lm.models.lora import apply_lora, freeze, language_model, merge_lora
from lm.models.neural_lm import WEIGHTS, NeuralLM, TrainableModel, load_weights, save_weights
from lm.models.registry import build_model
from lm.objectives.examples import Objective, Rows
from lm.train.job import TrainJob
from lm.train.pretraining import REFERENCE_LOGITS_FILE, save_reference_logits
from lm.train.state import Weights

CONFIG_FILE = "config.json"
BASE_WEIGHTS = "base.safetensors"  # in the run's folder, of a base that is no data set of the store


class Finetuning:
    """See ``lm.train.workload.Workload``."""

    def __init__(self, job: TrainJob) -> None:
        """Open the rows that the stage wrote into the job's folder."""
        assert isinstance(job.config, FinetuneConfig)
        self._job, self._config = job, job.config
        self._rows = load_rows(job.folder, TRAIN_ROWS)
        self.eos = None

    def build_model(self) -> TrainableModel:
        """Return the base with a fresh head, on the CPU; what the entry freezes needs no gradient."""
        model = self._build_model()
        data = self._base_weights()
        if data is not None and isinstance(model, FineTuned):
            load_base(model, load(data))
        elif data is not None:
            assert isinstance(model, NeuralLM)
            load_weights(model, data)
        if self._config.model.freeze is not None:
            freeze(model, self._config.model.freeze)
        self._adapt(model)
        return model

    def build_objective(self, model: TrainableModel) -> Objective:
        """Return the objective of the task."""
        assert isinstance(model, FineTuned)
        return model.objective(self._job.seed, self._config.eos_id)

    def held_out_rows(self) -> Rows:
        """Return the rows of the validation examples.

        Raises:
            UserError: if early stopping needs them and there are none.
        """
        rows = load_rows(self._job.folder, VALIDATION_ROWS)
        if self._config.optim.early_stopping_patience and not len(rows):
            raise UserError(
                f"{self._config.field}.optim.early_stopping_patience needs validation examples: "
                "set data.validation_fraction above 0"
            )
        return rows

    def warm_up_rows(self, count: int) -> Rows:
        """Return the first examples, repeated if there are fewer."""
        return load_rows(self._job.folder, TRAIN_ROWS)[[i % len(self._rows) for i in range(count)]]

    def build_loader(self, rank: int, world_size: int, start_step: int) -> ExampleLoader:
        """Return the loader of one process, from a step on."""
        return ExampleLoader(
            self._rows,
            self._job.seed,
            self._config.optim.batch_size,
            rank,
            world_size,
            examples=self._config.examples,
            start_step=start_step,
            skip=self._job.skip,
        )

    def save(self, weights: Weights, folder: Path) -> dict[str, Any]:
        """Write the weights, updates of low rank merged, the architecture and reference outputs."""
        model = self._build_model()
        self._adapt(model)
        model.load_state_dict(weights)
        merge_lora(model)
        save_weights(model, folder / WEIGHTS)
        if isinstance(model, FineTuned):
            save_file(reference_outputs(model), folder / REFERENCE_LOGITS_FILE)
        else:
            save_reference_logits(language_model(model), folder / REFERENCE_LOGITS_FILE)
        described = {
            "model_config": self._config.architecture,
            "training": self._config.weights_key(),
            "seed": self._job.seed,
        }
        (folder / CONFIG_FILE).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
        return {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "flops_per_token": model.flops_per_token(),
        }

    def _build_model(self) -> TrainableModel:
        base, head = parse(self._config.architecture)
        return build_model(base) if head is None else build_finetuned(base, head)

    def _adapt(self, model: TrainableModel) -> None:
        """Give the model the low-rank updates that the entry asks for."""
        lora = self._config.model.lora
        if lora is not None:
            apply_lora(model, lora.rank, lora.alpha, lora.targets)

    def _base_weights(self) -> bytes | None:
        if self._job.base_model is not None:
            return open_dataset(self._job.base_model).read(WEIGHTS)
        path = self._job.folder / BASE_WEIGHTS
        return path.read_bytes() if path.exists() else None


def open_workload(job: TrainJob) -> Finetuning:
    """Return what a job trains."""
    return Finetuning(job)
