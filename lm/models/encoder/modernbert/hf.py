"""Export to ``transformers.ModernBertForMaskedLM``: its configuration and its names of weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lm.models.encoder.hf_settings import special_tokens
from lm.models.model_kind import MASKED

__all__ = ["KIND", "special_tokens", "to_hf_config", "to_hf_weights"]

KIND = MASKED
BLOCK_NAMES = {
    "attention_norm": "attn_norm",
    "qkv": "attn.Wqkv",
    "out": "attn.Wo",
    "mlp_norm": "mlp_norm",
    "gate_up": "mlp.Wi",
    "down": "mlp.Wo",
}
TOP_LEVEL_NAMES = {
    "embed": "model.embeddings.tok_embeddings",
    "embed_norm": "model.embeddings.norm",
    "norm.final_norm": "model.final_norm",
    "norm.dense": "head.dense",
    "norm.norm": "head.norm",
    "head": "decoder",
}


def to_hf_config(model_config: Mapping[str, Any], eos: int) -> Any:
    """Return the Hugging Face configuration of a trained model's ``model_config``."""
    from transformers import ModernBertConfig

    rope = {"rope_type": "default", "rope_theta": model_config["rope_theta"]}
    layers = model_config["num_layers"]
    return ModernBertConfig(
        vocab_size=model_config["vocab_size"],
        hidden_size=model_config["hidden_size"],
        intermediate_size=model_config["ffn_size"],
        num_hidden_layers=layers,
        num_attention_heads=model_config["num_heads"],
        max_position_embeddings=model_config["context_length"],
        norm_eps=model_config["norm_eps"],
        layer_types=["full_attention"] * layers,
        rope_parameters={"full_attention": rope, "sliding_attention": rope},
        decoder_bias=False,
        tie_word_embeddings=model_config["tie_embeddings"],
        pad_token_id=eos,
        bos_token_id=eos,
        eos_token_id=eos,
        cls_token_id=eos,
        sep_token_id=eos,
        dtype="float32",
    )


def to_hf_weights(
    weights: Mapping[str, Tensor], model_config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights under Hugging Face's names."""
    renamed = {}
    for name, weight in weights.items():
        path, _, kind = name.rpartition(".")
        if path.startswith("blocks."):
            _, layer, part = path.split(".")
            renamed[f"model.layers.{layer}.{BLOCK_NAMES[part]}.{kind}"] = weight
        else:
            renamed[f"{TOP_LEVEL_NAMES[path]}.{kind}"] = weight
    if model_config["tie_embeddings"]:
        renamed["decoder.weight"] = weights["embed.weight"]
    return renamed
