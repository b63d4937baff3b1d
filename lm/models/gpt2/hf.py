"""A model in GPT-2's layout under ``transformers.GPT2LMHeadModel``'s names."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

BLOCK = {
    "attention_norm": "ln_1",
    "qkv": "attn.c_attn",
    "out": "attn.c_proj",
    "mlp_norm": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
TOP = {
    "embed": "transformer.wte",
    "places": "transformer.wpe",
    "norm": "transformer.ln_f",
    "head": "lm_head",
}


def config(shape: Mapping[str, Any], eos: int) -> Any:
    """The shape in Hugging Face's words."""
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=shape["vocabulary"],
        n_embd=shape["width"],
        n_inner=shape["hidden"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        n_positions=shape["context"],
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        layer_norm_epsilon=shape["norm_eps"],
        tie_word_embeddings=shape["tied"],
        bos_token_id=eos,
        eos_token_id=eos,
        dtype="float32",
    )


def rename(weights: Mapping[str, Tensor], shape: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights by their names there; its matrices lie transposed, and biases it has always."""
    renamed = {}
    for name, weight in weights.items():
        path, _, kind = name.rpartition(".")
        first, *rest = path.split(".")
        if first != "blocks":
            target, matrix = TOP[first], False
        else:
            layer, part = rest
            target, matrix = f"transformer.h.{layer}.{BLOCK[part]}", weight.dim() == 2
        renamed[f"{target}.{kind}"] = (weight.T if matrix else weight).contiguous()
        if not shape["bias"] and (matrix or weight.dim() == 1):
            renamed[f"{target}.bias"] = torch.zeros(weight.shape[0])
    if shape["tied"]:
        renamed["lm_head.weight"] = renamed["transformer.wte.weight"]
    return renamed
