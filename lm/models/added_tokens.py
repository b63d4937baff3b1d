"""Tokens that a fine-tuned model has beyond its base: marks of turns, or of what is filled in.

They are rows that the model adds to its embedding, after the base's ids. The released tokenizer has them as
added tokens; ``model_config`` has them as ``added_tokens``, ids by spelling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from infra.errors import UserError
from lm.models.encoder.sections import EncoderConfig
from lm.models.neural_lm import HEAD, HEAD_BIAS, ArchitectureConfig
from lm.models.seq2seq.sections import Seq2SeqConfig


def assign_ids(tokenizer: Any, tokens: Sequence[str], vocab_size: int) -> dict[str, int]:
    """Return the ids of tokens: the tokenizer's own, where it has them, or the next after ``vocab_size``."""
    ids: dict[str, int] = {}
    for token in tokens:
        known = tokenizer.token_to_id(token)
        added = sum(id_ >= vocab_size for id_ in ids.values())
        ids[token] = vocab_size + added if known is None else int(known)
    return ids


def extend_vocabulary(
    base: ArchitectureConfig, weights: Mapping[str, Tensor], ids: Mapping[str, int]
) -> tuple[ArchitectureConfig, dict[str, Tensor]]:
    """Return the sizes and weights of a base with rows for all ids.

    A new row is the mean of all others, so that the model is as likely to predict it as an average token
    (Hewitt 2021, "Initializing new word embeddings for pretrained language models").

    Raises:
        UserError: if the family has tokens of its own after the tokenizer's.
    """
    if isinstance(base, (EncoderConfig, Seq2SeqConfig)):
        raise UserError(
            f"chat and completion need a base that continues text, not {base.architecture}: take a decoder, a "
            "recurrent or a convolutional model"
        )
    count = sum(id_ >= base.vocab_size for id_ in ids.values())
    extended = dict(weights)
    for name in ("embed.weight", HEAD, HEAD_BIAS):
        if count and name in weights:
            rows = weights[name]
            extended[name] = torch.cat([rows, rows.mean(0).expand(count, *rows.shape[1:])])
    config: Any = base
    return replace(config, vocab_size=base.vocab_size + count), extended
