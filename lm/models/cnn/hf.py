"""Export to a folder with its own modeling file: transformers have no convolutional language model."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lm.models.model_kind import CAUSAL

KIND = CAUSAL


def to_hf_config(model_config: Mapping[str, Any], eos: int) -> Any:
    """Return the Hugging Face configuration of a trained model's ``model_config``."""
    from lm.models.cnn.modeling_cnn import GatedCNNConfig

    return GatedCNNConfig(
        vocab_size=model_config["vocab_size"],
        hidden_size=model_config["hidden_size"],
        num_hidden_layers=model_config["num_layers"],
        kernel_size=model_config["kernel_size"],
        max_position_embeddings=model_config["context_length"],
        rms_norm_eps=model_config["norm_eps"],
        tie_word_embeddings=model_config["tie_embeddings"],
        bos_token_id=eos,
        eos_token_id=eos,
        dtype="float32",
    )


def to_hf_weights(
    weights: Mapping[str, Tensor], model_config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights under Hugging Face's names, kernels as ``nn.Conv1d`` has them."""
    top = {"embed": "embed_tokens", "norm": "norm", "head": "lm_head"}
    size, kernel_size = model_config["hidden_size"], model_config["kernel_size"]
    renamed = {}
    for name, weight in weights.items():
        first, *rest = name.split(".")
        if first != "blocks":
            renamed[".".join([top[first], *rest])] = weight
        elif name.endswith("conv.weight"):
            kernel = weight.view(2 * size, kernel_size, size).transpose(1, 2).contiguous()
            renamed[".".join(["layers", *rest])] = kernel
        else:
            renamed[".".join(["layers", *rest])] = weight
    if model_config["tie_embeddings"]:
        renamed["lm_head.weight"] = renamed["embed_tokens.weight"]
    return renamed


def model_class() -> Any:
    """Return the class of the model."""
    from lm.models.cnn.modeling_cnn import GatedCNNForCausalLM

    return GatedCNNForCausalLM


def head_module() -> Any:
    """Return the module with the classes of models for other tasks."""
    from lm.models.cnn import modeling_cnn_heads

    return modeling_cnn_heads
