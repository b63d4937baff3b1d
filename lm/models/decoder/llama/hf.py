"""Export to ``transformers.LlamaForCausalLM``: its configuration and its names of weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lm.models.model_kind import CAUSAL

KIND = CAUSAL


def to_hf_config(model_config: Mapping[str, Any], eos: int) -> Any:
    """Return the Hugging Face configuration of a trained model's ``model_config``."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=model_config["vocab_size"],
        hidden_size=model_config["hidden_size"],
        intermediate_size=model_config["ffn_size"],
        num_hidden_layers=model_config["num_layers"],
        num_attention_heads=model_config["num_heads"],
        num_key_value_heads=model_config["num_kv_heads"],
        head_dim=model_config["hidden_size"] // model_config["num_heads"],
        max_position_embeddings=model_config["context_length"],
        rms_norm_eps=model_config["norm_eps"],
        rope_parameters={"rope_type": "default", "rope_theta": model_config["rope_theta"]},
        tie_word_embeddings=model_config["tie_embeddings"],
        bos_token_id=eos,
        eos_token_id=eos,
        dtype="float32",
    )


def to_hf_weights(
    weights: Mapping[str, Tensor], model_config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights under Hugging Face's names, stacked matrices split."""
    head_size = model_config["hidden_size"] // model_config["num_heads"]
    query, other = model_config["num_heads"] * head_size, model_config["num_kv_heads"] * head_size
    whole = {
        "attention_norm": "input_layernorm",
        "out": "self_attn.o_proj",
        "mlp_norm": "post_attention_layernorm",
        "down": "mlp.down_proj",
    }
    top = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    renamed = {}
    for name, weight in weights.items():
        path = name.removesuffix(".weight").split(".")
        if path[0] != "blocks":
            renamed[f"{top[path[0]]}.weight"] = weight
            continue
        _, layer, part = path
        if part == "qkv":
            parts = weight.split([query, other, other])
            names = [f"self_attn.{letter}_proj" for letter in "qkv"]
        elif part == "gate_up":
            parts, names = weight.chunk(2), ["mlp.gate_proj", "mlp.up_proj"]
        else:
            parts, names = (weight,), [whole[part]]
        for piece, target in zip(parts, names, strict=True):
            renamed[f"model.layers.{layer}.{target}.weight"] = piece.clone()
    if model_config["tie_embeddings"]:
        renamed["lm_head.weight"] = renamed["model.embed_tokens.weight"]
    return renamed
