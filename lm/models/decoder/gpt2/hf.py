"""Export to ``transformers.GPT2LMHeadModel``: its configuration and its names of weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lm.models.attention import sinusoidal_table
from lm.models.model_kind import CAUSAL

KIND = CAUSAL
BLOCK_NAMES = {
    "attention_norm": "ln_1",
    "qkv": "attn.c_attn",
    "out": "attn.c_proj",
    "mlp_norm": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
}
TOP_LEVEL_NAMES = {
    "embed": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "norm": "transformer.ln_f",
    "head": "lm_head",
}


def to_hf_config(model_config: Mapping[str, Any], eos: int) -> Any:
    """Return the Hugging Face configuration of a trained model's ``model_config``."""
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=model_config["vocab_size"],
        n_embd=model_config["hidden_size"],
        n_inner=model_config["ffn_size"],
        n_layer=model_config["num_layers"],
        n_head=model_config["num_heads"],
        n_positions=model_config["context_length"],
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        layer_norm_epsilon=model_config["norm_eps"],
        tie_word_embeddings=model_config["tie_embeddings"],
        bos_token_id=eos,
        eos_token_id=eos,
        dtype="float32",
    )


def to_hf_weights(
    weights: Mapping[str, Tensor], model_config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights under Hugging Face's names, matrices transposed, missing biases as zeros."""
    renamed = {}
    if model_config["positions"] == "sinusoidal":
        table = sinusoidal_table(model_config["context_length"], model_config["hidden_size"])
        renamed[f"{TOP_LEVEL_NAMES['position_embedding']}.weight"] = table
    for name, weight in weights.items():
        path, _, kind = name.rpartition(".")
        first, *rest = path.split(".")
        if first != "blocks":
            target, matrix = TOP_LEVEL_NAMES[first], False
        else:
            layer, part = rest
            target, matrix = f"transformer.h.{layer}.{BLOCK_NAMES[part]}", weight.dim() == 2
        renamed[f"{target}.{kind}"] = (weight.T if matrix else weight).contiguous()
        if not model_config["bias"] and (matrix or weight.dim() == 1):
            renamed[f"{target}.bias"] = torch.zeros(weight.shape[0])
    if model_config["tie_embeddings"]:
        renamed["lm_head.weight"] = renamed["transformer.wte.weight"]
    return renamed
