"""Load a released model for explanations."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from infra.errors import UserError
from infra.store.storage import Storage
from lm.interpret.labels import spell_tokens
from lm.models.hf_auto import load_with_tokenizer

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
FILES = ("config.json", "model.safetensors", *TOKENIZER_FILES)


@dataclass(frozen=True)
class ReleasedModel:
    """A model and its tokenizer, on the CPU.

    Attributes:
        model: of transformers, or of a family's own class.
        tokenizer: adds the tokens around a text as the model's task needs them.
        hf_class: the name of the model's class.
    """

    model: Any
    tokenizer: Any
    hf_class: str

    @property
    def labels(self) -> list[str]:
        """Names of the classes of a classifier; empty for other models."""
        if not self.hf_class.endswith("ForSequenceClassification"):
            return []
        return [
            self.model.config.id2label[number] for number in range(self.model.config.num_labels)
        ]

    @property
    def continues_text(self) -> bool:
        """Whether the model predicts the next token."""
        return self.hf_class.endswith(("ForCausalLM", "LMHeadModel"))

    def encode(self, text: str) -> torch.Tensor:
        """Return the ids of a text as the model reads it, int64[T].

        A document begins after an end of text for a model that continues it. The end of a longer text is cut.
        """
        ids = self.tokenizer(text, truncation=True)["input_ids"]
        start = self.tokenizer.bos_token_id
        if self.continues_text and ids[:1] != [start]:
            ids = [start, *ids][: self.tokenizer.model_max_length]
        return torch.tensor(ids, dtype=torch.int64)

    def spell(self, ids: torch.Tensor) -> list[str]:
        """Return the text of each token; parts of characters are shown as replacement characters."""
        return spell_tokens(self.tokenizer, ids)


@contextmanager
def open_released(folder: Storage) -> Iterator[ReleasedModel]:
    """Open the model of a released folder; a remote one is downloaded first.

    Raises:
        UserError: if the folder has no model that transformers load.
    """
    missing = [name for name in FILES if not folder.exists(name)]
    if missing:
        raise UserError(
            f"{folder.url} has no {missing[0]}: name the folder of a released model, or RECIPE:NAME for a model of "
            "the recipe's latest run. Models that are counted, and word vectors, cannot be explained"
        )
    local = folder.local_path()
    if local is not None:
        yield _load(local)
        return
    with tempfile.TemporaryDirectory(prefix="gristmill-explain-") as scratch:
        for name in FILES:
            folder.download(name, Path(scratch) / name)
        yield _load(Path(scratch))


def _load(folder: Path) -> ReleasedModel:
    from transformers.utils import logging

    logging.disable_progress_bar()
    hf_class = json.loads((folder / "config.json").read_bytes())["architectures"][0]
    model, tokenizer = load_with_tokenizer(folder)
    return ReleasedModel(model, tokenizer, str(hf_class))
