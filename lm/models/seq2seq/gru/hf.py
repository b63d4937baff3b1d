"""Export to a folder with its own modeling file: transformers have no recurrent encoder-decoder."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lm.models.model_kind import SEQ2SEQ
from lm.models.seq2seq.hf_settings import special_tokens, token_settings

__all__ = ["KIND", "model_class", "special_tokens", "to_hf_config", "to_hf_weights"]

KIND = SEQ2SEQ
TOP_LEVEL_NAMES = {
    "embed": "encoder.embed_tokens",
    "start": "decoder.start",
    "readout": "decoder.readout",
    "head": "lm_head",
}


def to_hf_config(model_config: Mapping[str, Any], eos: int) -> Any:
    """Return the Hugging Face configuration of a trained model's ``model_config``."""
    from lm.models.seq2seq.gru.modeling_seq2seq_gru import GRUSeq2SeqConfig

    return GRUSeq2SeqConfig(
        vocab_size=model_config["vocab_size"],
        hidden_size=model_config["hidden_size"],
        num_hidden_layers=model_config["num_layers"],
        tie_word_embeddings=model_config["tie_embeddings"],
        dtype="float32",
        **token_settings(model_config, eos),
    )


def to_hf_weights(
    weights: Mapping[str, Tensor], model_config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights under Hugging Face's names: a layer's as torch's recurrent modules name them."""
    layers, renamed = model_config["num_layers"], {}
    for name, weight in weights.items():
        first, *rest = name.split(".")
        if first != "blocks":
            renamed[".".join([TOP_LEVEL_NAMES[first], *rest])] = weight
            continue
        number, *parameter = rest
        layer = int(number)
        if layer < layers:
            direction, kind = parameter
            suffix = "_reverse" if direction == "right_to_left" else ""
            renamed[f"encoder.layers.{kind}_l{layer}{suffix}"] = weight
        elif layer > layers:
            renamed[f"decoder.layers.{parameter[0]}_l{layer - layers - 1}"] = weight
        elif parameter[0] in ("query", "key"):
            renamed[f"decoder.{parameter[0]}.weight"] = weight
        elif parameter[0] == "score":
            renamed["decoder.score.weight"] = weight[None]
        else:
            renamed[f"decoder.cell.{parameter[0]}"] = weight
    if model_config["tie_embeddings"]:
        renamed["lm_head.weight"] = renamed["encoder.embed_tokens.weight"]
    return renamed


def model_class() -> Any:
    """Return the class of the model."""
    from lm.models.seq2seq.gru.modeling_seq2seq_gru import GRUForConditionalGeneration

    return GRUForConditionalGeneration
