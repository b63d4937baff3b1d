"""A model's weights as a file: safetensors in fp32, under the training model's names."""

from pathlib import Path

from safetensors.torch import load, save_file

from lm.models.decoder import Decoder

WEIGHTS = "model.safetensors"
HEAD = "head.weight"  # left out where it is the embedding


def save_weights(model: Decoder, path: Path) -> None:
    """The weights in fp32 under the training model's names; a tied head is left out."""
    weights = {
        name: weight.contiguous()
        for name, weight in model.state_dict().items()
        if not (model.config.tie_embeddings and name == HEAD)
    }
    save_file(weights, path)


def load_weights(model: Decoder, data: bytes) -> None:
    """Set a model's weights to those that ``save_weights`` wrote of one of the same shape."""
    weights = load(data)
    if model.config.tie_embeddings:
        weights[HEAD] = weights["embed.weight"]
    model.load_state_dict(weights)
