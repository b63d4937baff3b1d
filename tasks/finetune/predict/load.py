"""Load a released model and its tokenizer."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm.models.heads.config import HeadConfig
from lm.models.heads.hf import run_hf_model
from lm.models.hf_auto import load_with_tokenizer
from lm.models.registry import family_name
from lm.objectives.examples import Rows
from lm.objectives.text_rows import TextEncoder

BATCH_SIZE = 32


@dataclass(frozen=True)
class ReleasedModel:
    """A model of transformers, on the CPU, in fp32 and without dropout.

    Attributes:
        model: its class has the head of the task.
        tokenizer: of the folder.
        encoder: reads texts as they were read in training.
    """

    model: Any
    tokenizer: Any
    encoder: TextEncoder

    @property
    def eos_id(self) -> int:
        """The end of text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the source."""
        return bool(self.model.config.is_encoder_decoder)


@lru_cache(maxsize=1)
def load_released(folder: Path) -> ReleasedModel:
    """Load the model of a release, whose name holds the model's fingerprint."""
    model, tokenizer = load_with_tokenizer(folder)
    encoder = TextEncoder(
        (folder / "tokenizer.json").read_bytes(),
        int(tokenizer.eos_token_id),
        ends_text=family_name(model.config.model_type) == "encoder",
    )
    return ReleasedModel(model, tokenizer, encoder)


@torch.no_grad()
def run_in_batches(released: ReleasedModel, head: HeadConfig, rows: Rows) -> list[Tensor]:
    """Return the head's output for each row of ids, whose padding is below zero."""
    outputs: list[Tensor] = []
    for start in range(0, len(rows), BATCH_SIZE):
        ids = torch.from_numpy(rows[start : start + BATCH_SIZE])
        longest = max(1, int((ids >= 0).sum(1).max()))
        outputs += [*run_hf_model(released.model, head, ids[:, :longest])]
    return outputs
