"""What the exports of all encoder-decoders have in common."""

from collections.abc import Mapping
from typing import Any


def special_tokens(model_config: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids that the model has beyond the tokenizer's, by their name in transformers."""
    count = model_config["num_sentinels"]
    first = model_config["vocab_size"] - count
    return {f"extra_id_{number}": first + number for number in range(count)}


def token_settings(model_config: Mapping[str, Any], eos: int) -> dict[str, Any]:
    """Return the keys of ``config.json`` that say which tokens stand for what, and how many are read.

    Evaluation reads ``max_position_embeddings``, ``continuation_length`` and ``sentinel_token_id``.
    """
    return {
        "bos_token_id": eos,
        "eos_token_id": eos,
        "pad_token_id": eos,
        "decoder_start_token_id": eos,
        "max_position_embeddings": model_config["context_length"],
        "continuation_length": model_config["num_noise_tokens"],
        "sentinel_token_id": model_config["vocab_size"] - model_config["num_sentinels"],
    }
