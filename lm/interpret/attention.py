"""Attention maps of transformers' models, and how attention flows through the layers."""

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def attention_maps(model: Any, tokens_t: Tensor) -> Tensor | None:
    """Return which token attends to which, float[layers, heads, T, T]; ``None`` for models without attention.

    Of an encoder-decoder the encoder's. Rows are the tokens that attend, and add up to 1.
    """
    if not hasattr(model, "set_attn_implementation") or model.config.model_type.startswith(
        "gristmill-"
    ):
        return None
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")  # others compute no maps
    ids = tokens_t[None]
    try:
        if getattr(model.config, "is_encoder_decoder", False):
            output = model.get_encoder()(input_ids=ids, output_attentions=True)
        else:
            output = model(
                input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True
            )
    finally:
        model.set_attn_implementation(implementation)
    return torch.cat(list(output.attentions)).float()


def attention_rollout(maps_lhtt: Tensor) -> Tensor:
    """Return how much each token's state has of each token, float[layers, T, T] (Abnar & Zuidema 2020, 2005.00928).

    A layer mixes half of a token's own state with the mean of its heads' attention.
    """
    size = maps_lhtt.shape[-1]
    mixed = 0.5 * maps_lhtt.mean(1) + 0.5 * torch.eye(size)
    flow, rolled = torch.eye(size), []
    for layer in mixed:
        flow = layer @ flow
        rolled.append(flow)
    return torch.stack(rolled)
