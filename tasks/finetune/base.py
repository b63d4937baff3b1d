"""The base of a fine-tuned model: what is read of it before a run starts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256

# Bases that read an end of text after a text, too (lm.objectives.text_rows).
ENCODERS = ("bert", "modernbert")
ENCODER_DECODERS = ("t5", "seq2seq.gru")


@dataclass(frozen=True)
class Base:
    """What a variant takes of its base.

    Attributes:
        model_config: its sizes.
        tokenizer: ``tokenizer.json``.
        eos_id: the end of text.
        model: the data set with its weights.
    """

    model_config: Mapping[str, Any]
    tokenizer: bytes
    eos_id: int
    model: Dataset

    @property
    def architecture(self) -> str:
        """The package of ``lm.models`` that holds it."""
        return str(self.model_config["architecture"])

    @property
    def ends_text(self) -> bool:
        """Whether it reads an end of text after a text."""
        return self.architecture in ENCODERS

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the source, and a decoder writes the target."""
        return self.architecture in ENCODER_DECODERS

    @property
    def key(self) -> str:
        """Digest of what a model with its sizes and tokenizer, but other weights, depends on."""
        return json_sha256([dict(self.model_config), self.tokenizer.decode()])


def open_base(model: Dataset, tokens: Dataset) -> Base:
    """Return what is needed of a trained model, and of the tokens that it was trained on."""
    config = json.loads(model.read("config.json"))["model_config"]
    return Base(config, model.read("tokenizer.json"), int(tokens.stats["eos_id"]), model)
