"""The `model` section of the recipe's `train` list for the GRU encoder-decoder with attention."""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from lm.models.seq2seq.sections import Seq2SeqConfig, Seq2SeqSection

PACKAGE = "seq2seq.gru"  # of `lm.models`, which has a package gru, too: the family


class GRUConfig(Seq2SeqSection):
    """Gated recurrent units and additive attention (Bahdanau et al. 2015, arXiv:1409.0473)."""

    architecture: Literal["gru"] = Field(description="the architecture of the model")
    hidden_size: int = Field(
        ge=8,
        description="width of the embedding, of a layer's state, and of each direction of the encoder",
    )

    def resolve(self, vocab_size: int) -> Seq2SeqConfig:
        """Return the architecture of a model with this vocabulary, defaults resolved."""
        return replace(self.resolve_with(vocab_size), architecture=PACKAGE)
