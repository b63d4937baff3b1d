"""Export to a folder with its own modeling file: transformers have no recurrent language model."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lm.models.model_kind import CAUSAL

KIND = CAUSAL


def to_hf_config(model_config: Mapping[str, Any], eos: int) -> Any:
    """Return the Hugging Face configuration of a trained model's ``model_config``."""
    from lm.models.recurrent.modeling_recurrent import RecurrentConfig

    return RecurrentConfig(
        cell=model_config["architecture"],
        vocab_size=model_config["vocab_size"],
        hidden_size=model_config["hidden_size"],
        num_hidden_layers=model_config["num_layers"],
        max_position_embeddings=model_config["context_length"],
        tie_word_embeddings=model_config["tie_embeddings"],
        bos_token_id=eos,
        eos_token_id=eos,
        dtype="float32",
    )


def to_hf_weights(
    weights: Mapping[str, Tensor], model_config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights under Hugging Face's names: a layer's as torch's recurrent modules name them."""
    renamed = {}
    for name, weight in weights.items():
        first, *rest = name.split(".")
        if first == "blocks":
            layer, parameter = rest
            renamed[f"layers.{parameter}_l{layer}"] = weight
        else:
            renamed[".".join([{"embed": "embed_tokens", "head": "lm_head"}[first], *rest])] = weight
    if model_config["tie_embeddings"]:
        renamed["lm_head.weight"] = renamed["embed_tokens.weight"]
    return renamed


def model_class() -> Any:
    """Return the class of the model."""
    from lm.models.recurrent.modeling_recurrent import RecurrentForCausalLM

    return RecurrentForCausalLM


def head_module() -> Any:
    """Return the module with the classes of models for other tasks."""
    from lm.models.recurrent import modeling_recurrent_heads

    return modeling_recurrent_heads
