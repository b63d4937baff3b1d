"""Fine-tuning: a base model and the head of a task, trained on encoded examples."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from infra.dataset.dataset import open_dataset
from infra.errors import UserError
from lm.config.finetune import BASE_WEIGHTS, FinetuneConfig
from lm.data.example_loader import TRAIN_ROWS, VALIDATION_ROWS, ExampleLoader, load_rows
from lm.models.added_tokens import extend_vocabulary
from lm.models.frozen import freeze, language_model, train_embeddings
from lm.models.heads.config import describe, parse
from lm.models.heads.model import FineTuned, build_finetuned, load_base, reference_outputs
from lm.models.lora import apply_lora, merge_lora
from lm.models.neural_lm import HEAD, WEIGHTS, NeuralLM, TrainableModel, save_weights
from lm.models.registry import build_model
from lm.models.seq2seq.sections import Seq2SeqConfig
from lm.objectives.counted_tokens import CountedTokens
from lm.objectives.examples import Objective, Rows
from lm.objectives.fill_in_middle import ADDED_TOKENS as FIM_TOKENS
from lm.objectives.fill_in_middle import FillInMiddle
from lm.objectives.to_target import ToTarget
from lm.train.job import TrainJob
from lm.train.pretraining import REFERENCE_LOGITS_FILE, save_reference_logits
from lm.train.state import Weights

CONFIG_FILE = "config.json"


class Finetuning:
    """See ``lm.train.workload.Workload``."""

    eos = None  # a row is one example

    def __init__(self, job: TrainJob) -> None:
        """Open the rows that the stage wrote into the job's folder."""
        assert isinstance(job.config, FinetuneConfig)
        self._job, self._config = job, job.config
        self._rows = load_rows(job.folder, TRAIN_ROWS)

    def build_model(self) -> TrainableModel:
        """Return the base with a fresh head, on the CPU; what is frozen needs no gradient.

        Raises:
            UserError: if the base cannot be frozen or updated as the recipe says.
        """
        return self._build_model(self._base_weights())

    def build_objective(self, model: TrainableModel, *, training: bool) -> Objective:  # noqa: ARG002
        """Return the objective of the task, the same in training and validation."""
        config = self._config
        if isinstance(model, FineTuned):
            return model.objective(self._job.seed, config.eos_id)
        if config.task == "completion":
            prefix, suffix, middle = (config.added_tokens[token] for token in FIM_TOKENS)
            marks = (prefix, suffix, middle)
            return FillInMiddle(self._job.seed, config.eos_id, marks, config.fim_fraction)
        if isinstance(model.config, Seq2SeqConfig):
            return ToTarget(config.eos_id, config.max_length)
        return CountedTokens()

    def held_out_rows(self) -> Rows:
        """Return the rows of the validation examples.

        Raises:
            UserError: if early stopping needs them and there are none.
        """
        rows = np.array(load_rows(self._job.folder, VALIDATION_ROWS))  # torch wants to own them
        if self._config.optim.early_stopping_patience and not len(rows):
            raise UserError(
                f"{self._config.field}.optim.early_stopping_patience needs validation examples: "
                "set data.validation_fraction above 0"
            )
        return rows

    def warm_up_rows(self, count: int) -> Rows:
        """Return the first examples, repeated if there are fewer."""
        return self._rows[[number % len(self._rows) for number in range(count)]]

    def build_loader(self, rank: int, world_size: int, start_step: int) -> ExampleLoader:
        """Return the loader of one process, from a step on."""
        return ExampleLoader(
            self._rows,
            self._job.seed,
            self._config.optim.batch_size,
            rank,
            world_size,
            start_step=start_step,
            skip=self._job.skip,
        )

    def save(self, weights: Weights, folder: Path) -> dict[str, Any]:
        """Write the weights, low-rank updates merged, the architecture and reference outputs."""
        model = self._build_model({})
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        model.load_state_dict(weights)
        merge_lora(model)
        save_weights(model, folder / WEIGHTS)
        if isinstance(model, FineTuned):
            save_file(reference_outputs(model), folder / REFERENCE_LOGITS_FILE)
        else:
            save_reference_logits(language_model(model), folder / REFERENCE_LOGITS_FILE)
        _, head = parse(self._config.architecture)
        described = {
            "model_config": describe(model.config, head, self._config.added_tokens),
            "training": self._config.weights_key(),
            "seed": self._job.seed,
        }
        (folder / CONFIG_FILE).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
        return {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "trained_parameters": trained,
            "flops_per_token": model.flops_per_token(),
        }

    def _build_model(self, weights: Mapping[str, Tensor]) -> TrainableModel:
        """Return the model with a base of these weights, or of random ones without."""
        base, head = parse(self._config.architecture)
        if self._config.added_tokens:
            base, weights = extend_vocabulary(base, weights, self._config.added_tokens)
        model: TrainableModel
        if head is None:
            model = build_model(base)
            if weights:
                _load_weights(model, weights)
        else:
            model = build_finetuned(base, head)
            if weights:
                load_base(model, dict(weights))
        settings = self._config.model
        if settings.freeze is not None:
            freeze(model, settings.freeze)
        if settings.lora is not None:
            apply_lora(model, settings.lora.rank, settings.lora.alpha, settings.lora.targets)
        if self._config.added_tokens:
            train_embeddings(model)
        return model

    def _base_weights(self) -> dict[str, Tensor]:
        """Return the weights that the training starts from; none for a model from random ones."""
        if self._config.starts_from_file:
            return load_file(self._job.folder / BASE_WEIGHTS)
        if self._job.base_model is None:
            return {}
        return load(open_dataset(self._job.base_model).read(WEIGHTS))


def _load_weights(model: NeuralLM, weights: Mapping[str, Tensor]) -> None:
    """Set a language model's weights; a tied head is not among them."""
    tied = {HEAD: weights["embed.weight"]} if model.config.tie_embeddings else {}
    model.load_state_dict({**weights, **tied})


def open_workload(job: TrainJob) -> Finetuning:
    """Return what a job trains."""
    return Finetuning(job)
