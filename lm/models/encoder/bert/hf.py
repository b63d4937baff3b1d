"""Export to ``transformers.BertForMaskedLM``: its configuration and its names of weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lm.models.attention import sinusoidal_table
from lm.models.encoder.hf_settings import special_tokens
from lm.models.model_kind import MASKED

__all__ = ["KIND", "special_tokens", "to_hf_config", "to_hf_weights"]

KIND = MASKED
BLOCK_NAMES = {
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
TOP_LEVEL_NAMES = {
    "embed": "bert.embeddings.word_embeddings",
    "position_embedding": "bert.embeddings.position_embeddings",
    "embed_norm": "bert.embeddings.LayerNorm",
    "norm.dense": "cls.predictions.transform.dense",
    "norm.norm": "cls.predictions.transform.LayerNorm",
    "head": "cls.predictions.decoder",
}


def to_hf_config(model_config: Mapping[str, Any], eos: int) -> Any:
    """Return the Hugging Face configuration of a trained model's ``model_config``."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=model_config["vocab_size"],
        hidden_size=model_config["hidden_size"],
        num_hidden_layers=model_config["num_layers"],
        num_attention_heads=model_config["num_heads"],
        intermediate_size=model_config["ffn_size"],
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=model_config["context_length"],
        type_vocab_size=1,
        layer_norm_eps=model_config["norm_eps"],
        tie_word_embeddings=model_config["tie_embeddings"],
        pad_token_id=eos,
        bos_token_id=eos,
        eos_token_id=eos,
        dtype="float32",
    )


def to_hf_weights(
    weights: Mapping[str, Tensor], model_config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights under Hugging Face's names; what the model has not is zero."""
    size, vocab_size = model_config["hidden_size"], model_config["vocab_size"]
    renamed = {
        "bert.embeddings.token_type_embeddings.weight": torch.zeros(1, size),
        "cls.predictions.bias": torch.zeros(vocab_size),
        "cls.predictions.decoder.bias": torch.zeros(vocab_size),
    }
    if model_config["positions"] == "sinusoidal":
        table = sinusoidal_table(model_config["context_length"], size)
        renamed["bert.embeddings.position_embeddings.weight"] = table
    for name, weight in weights.items():
        path, _, kind = name.rpartition(".")
        if not path.startswith("blocks."):
            renamed[f"{TOP_LEVEL_NAMES[path]}.{kind}"] = weight
            continue
        _, layer, part = path.split(".")
        prefix = f"bert.encoder.layer.{layer}"
        if part == "qkv":
            parts = ("query", "key", "value")
            for piece, own in zip(weight.chunk(3), parts, strict=True):
                renamed[f"{prefix}.attention.self.{own}.{kind}"] = piece.clone()
        else:
            renamed[f"{prefix}.{BLOCK_NAMES[part]}.{kind}"] = weight
    if model_config["tie_embeddings"]:
        renamed["cls.predictions.decoder.weight"] = weights["embed.weight"]
    return renamed
