"""Pre-training: an entry of `train`, trained on the rows of token shards."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from infra.dataset.dataset import open_dataset
from infra.errors import UserError
from infra.formats.megatron import TRAIN, VALIDATION, TokenShards
from lm.config.train import TrainConfig
from lm.data.loader import DataLoader, build_loader, validation_rows
from lm.models.neural_lm import WEIGHTS, NeuralLM, TrainableModel, load_weights, save_weights
from lm.models.registry import build_model
from lm.objectives.examples import Objective, Rows
from lm.objectives.goldfish import Goldfish
from lm.train.job import TrainJob
from lm.train.state import Weights

REFERENCE_LOGITS_FILE, CONFIG_FILE = "reference_logits.safetensors", "config.json"
MAX_REFERENCE_POSITIONS = 64


class Pretraining:
    """See ``lm.train.workload.Workload``."""

    def __init__(self, job: TrainJob) -> None:
        """Open the token shards of a job."""
        assert isinstance(job.config, TrainConfig)
        self._job, self._config = job, job.config
        self._tokens = open_dataset(job.data)
        self._cache = job.folder.parent / "tokens"
        self._eos_id = int(self._tokens.stats["eos_id"])
        self.eos = None if self._config.data.packing == "concatenate" else self._eos_id

    def build_model(self) -> NeuralLM:
        """Return the model with the weights that the training starts from, on the CPU."""
        model = self._build_model()
        if self._job.base_model:
            load_weights(model, open_dataset(self._job.base_model).read(WEIGHTS))
        return model

    def build_objective(self, model: TrainableModel, *, training: bool) -> Objective:
        """Return the objective of the model's family; in training, as the recipe changes it."""
        assert isinstance(model, NeuralLM)
        objective = model.objective(self._job.seed, self._eos_id)
        goldfish = self._config.data.goldfish
        if goldfish is None or not training:
            return objective
        return Goldfish(objective, goldfish.k, goldfish.context)

    def held_out_rows(self) -> Rows:
        """Return the fixed rows of the validation loss, int64[n, context_length + 1].

        Raises:
            UserError: if early stopping needs them and there are none.
        """
        config = self._config
        shards = TokenShards(self._tokens, VALIDATION, self._cache, config.data.shard_cache_bytes)
        rows = validation_rows(
            shards, config.model.context_length, config.effective_validation_tokens
        )
        if config.optim.early_stopping_patience and not len(rows):
            raise UserError(
                f"{config.field}.optim.early_stopping_patience needs held-out tokens, but the "
                "token shards have none; set tokenize.validation_fraction above 0"
            )
        return rows

    def warm_up_rows(self, count: int) -> Rows:
        """Return rows of zeros."""
        return np.zeros((count, self._config.model.context_length + 1), np.int64)

    def build_loader(self, rank: int, world_size: int, start_step: int) -> DataLoader:
        """Return the loader of one process, from a step on."""
        job = self._job
        return build_loader(
            self._config,
            self._tokens,
            job.seed,
            rank,
            world_size,
            self._cache,
            start_step,
            job.skip,
        )

    def save(self, weights: Weights, folder: Path) -> dict[str, Any]:
        """Write the weights, the architecture and reference logits."""
        model = self._build_model()
        model.load_state_dict(weights)
        save_weights(model, folder / WEIGHTS)
        save_reference_logits(model, folder / REFERENCE_LOGITS_FILE)
        described = {
            "model_config": asdict(model.config),
            "training": self._config.weights_key(),
            "seed": self._job.seed,
        }
        (folder / CONFIG_FILE).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
        return {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "flops_per_token": model.flops_per_token(),
            "training_tokens": self._tokens.stats["tokens"][TRAIN],
        }

    def _build_model(self) -> NeuralLM:
        return build_model(self._config.model.resolve(self._tokens.stats["vocab_size"]))


def open_workload(job: TrainJob) -> Pretraining:
    """Return what a job trains."""
    return Pretraining(job)


@torch.no_grad()
def save_reference_logits(model: NeuralLM, path: Path) -> None:
    """Save the model's logits for a fixed input, to check the model after an export.

    The file holds ``tokens`` int64[1, T] and what else ``forward`` takes, ``positions`` int64[n] and
    ``logits`` float[n, V] at these positions, computed in fp32 on the CPU.
    """
    tokens, others = model.reference_inputs(torch.Generator().manual_seed(0))
    length = tokens.shape[1]
    positions = torch.linspace(0, length - 1, min(length, MAX_REFERENCE_POSITIONS)).round().long()
    logits = model(tokens, **others)[0, positions].contiguous()
    save_file({"tokens": tokens, **others, "positions": positions, "logits": logits}, path)
