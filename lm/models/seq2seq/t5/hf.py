"""Export to ``transformers.T5ForConditionalGeneration``: its configuration and its names of weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lm.models.model_kind import SEQ2SEQ
from lm.models.seq2seq.hf_settings import special_tokens, token_settings
from lm.models.seq2seq.t5.relative_bias import MAX_DISTANCE, NUM_BUCKETS

__all__ = ["KIND", "special_tokens", "to_hf_config", "to_hf_weights"]

KIND = SEQ2SEQ
ATTENTION = {"q": ("q",), "kv": ("k", "v"), "out": ("o",)}
TOP_LEVEL_NAMES = {
    "embed": "shared",
    "norm": "decoder.final_layer_norm",
    "encoder_norm": "encoder.final_layer_norm",
    "encoder_bias.bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    "decoder_bias.bias": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
}


def to_hf_config(model_config: Mapping[str, Any], eos: int) -> Any:
    """Return the Hugging Face configuration of a trained model's ``model_config``."""
    from transformers import T5Config

    return T5Config(
        vocab_size=model_config["vocab_size"],
        d_model=model_config["hidden_size"],
        d_kv=model_config["hidden_size"] // model_config["num_heads"],
        d_ff=model_config["ffn_size"],
        num_layers=model_config["num_layers"],
        num_heads=model_config["num_heads"],
        relative_attention_num_buckets=NUM_BUCKETS,
        relative_attention_max_distance=MAX_DISTANCE,
        dropout_rate=0.0,
        layer_norm_epsilon=model_config["norm_eps"],
        feed_forward_proj="gated-gelu",
        dtype="float32",
        **token_settings(model_config, eos),
    )


def to_hf_weights(
    weights: Mapping[str, Tensor], model_config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights under Hugging Face's names, stacked matrices split."""
    renamed = {}
    for name, weight in weights.items():
        path = name.removesuffix(".weight")
        if not path.startswith("blocks."):
            renamed[f"{TOP_LEVEL_NAMES[path]}.weight"] = weight
            continue
        _, number, part, *rest = path.split(".")
        is_decoder, layer = divmod(int(number), model_config["num_layers"])
        stack, feed_forward = ("decoder", "2") if is_decoder else ("encoder", "1")
        prefix = f"{stack}.block.{layer}.layer"
        match part:
            case "attention" | "cross":
                kind = "0.SelfAttention" if part == "attention" else "1.EncDecAttention"
                names = [f"{kind}.{own}" for own in ATTENTION[rest[0]]]
            case "gate_up":
                names = [f"{feed_forward}.DenseReluDense.wi_{half}" for half in (0, 1)]
            case "down":
                names = [f"{feed_forward}.DenseReluDense.wo"]
            case _:
                at = {"attention_norm": "0", "cross_norm": "1", "mlp_norm": feed_forward}[part]
                names = [f"{at}.layer_norm"]
        for piece, own in zip(weight.chunk(len(names)), names, strict=True):
            renamed[f"{prefix}.{own}.weight"] = piece.clone()
    for copy in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head"):
        renamed[f"{copy}.weight"] = weights["embed.weight"]
    return renamed
