"""What the encoder-decoders share; shape letters as in ``lm.models.neural_lm``.

S source positions, T target positions. The embedding, which encoder and decoder share, has more rows than
the tokenizer has ids: the sentinels. So the token shards and the tokenizer are the same for all families.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from lm.models.neural_lm import NeuralLM
from lm.models.seq2seq.sections import Seq2SeqConfig
from lm.objectives.span_corruption import SpanCorruption


class Seq2Seq(NeuralLM):
    """An encoder reads the source, a decoder predicts the target from it and from itself."""

    config: Seq2SeqConfig

    def objective(self, seed: int, eos: int) -> SpanCorruption:
        """Return how the rows of a run with this seed become what the model reads and predicts."""
        c = self.config
        return SpanCorruption(
            seed, eos, c.first_sentinel, c.num_noise_tokens, c.num_sentinels, c.prefix_fraction
        )

    def reference_inputs(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return an input of one row, by which an export is checked: ids, and what else is read."""
        c = self.config
        source, tokens = (
            torch.randint(0, c.vocab_size, (1, length), generator=generator)
            for length in (c.source_length, c.target_length)
        )
        return tokens, {"source": source}

    @abstractmethod
    def decode(self, tokens_bt: Tensor, source_bs: Tensor, dropout_keys_b: Tensor | None) -> Tensor:
        """Return what the head reads, float[B, T, D]; ids of the source below zero are padding."""

    def hidden_states(
        self, tokens_bt: Tensor, eos: int | None = None, dropout_keys_b: Tensor | None = None
    ) -> Tensor:
        """Refuse: the decoder reads a source as well."""
        raise NotImplementedError("an encoder-decoder needs a source: see `decode`")

    def forward(
        self,
        tokens_bt: Tensor,
        targets_bt: Tensor | None = None,
        *,
        source: Tensor | None = None,
        positions: Tensor | None = None,  # noqa: ARG002
        eos: int | None = None,  # noqa: ARG002 - its rows are not packed with masks
        dropout_keys: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Return logits float[B, T, V] or, given targets, their summed loss in nats.

        As ``NeuralLM.forward``; ``source`` is int64[B, S], ids below zero are padding.
        """
        assert source is not None
        hidden_btd = self.decode(tokens_bt, source, dropout_keys)
        return self.predict(hidden_btd, targets_bt, None, label_smoothing)
