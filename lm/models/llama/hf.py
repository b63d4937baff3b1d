"""A model in Llama's layout under ``transformers.LlamaForCausalLM``'s names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def config(shape: Mapping[str, Any], eos: int) -> Any:
    """The shape in Hugging Face's words."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["width"],
        intermediate_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        head_dim=shape["width"] // shape["heads"],
        max_position_embeddings=shape["context"],
        rms_norm_eps=shape["norm_eps"],
        rope_parameters={"rope_type": "default", "rope_theta": shape["rope_theta"]},
        tie_word_embeddings=shape["tied"],
        bos_token_id=eos,
        eos_token_id=eos,
        dtype="float32",
    )


def rename(weights: Mapping[str, Tensor], shape: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights by their names there, stacked matrices taken apart."""
    head_width = shape["width"] // shape["heads"]
    query, other = shape["heads"] * head_width, shape["kv_heads"] * head_width
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
    if shape["tied"]:
        renamed["lm_head.weight"] = renamed["model.embed_tokens.weight"]
    return renamed
