"""Load the weights of a released folder under the training model's names."""

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from infra.errors import UserError
from lm.models.neural_lm import ArchitectureConfig
from lm.models.registry import build_model, config_class, load_hf
from lm.models.released import WEIGHTS


def load_released_weights(
    weights: bytes, model_config: Mapping[str, Any], where: str
) -> dict[str, Tensor]:
    """Return released weights as fp32 tensors by the training model's names, without a tied head.

    Args:
        weights: content of ``model.safetensors``.
        model_config: of ``parse_released_config``.
        where: the folder, for messages.

    Raises:
        UserError: if they were changed in a way that the model's sizes do not have.
    """
    base = config_class(model_config["architecture"])(
        **{name: value for name, value in model_config.items() if name != "added_tokens"}
    )
    try:
        exported = load(weights)
    except SafetensorError as error:
        raise UserError(f"{where}: {WEIGHTS} cannot be read ({error})") from None
    return from_hf_weights(exported, base, model_config, where)


def from_hf_weights(
    exported: Mapping[str, Tensor],
    base: ArchitectureConfig,
    model_config: Mapping[str, Any],
    where: str,
) -> dict[str, Tensor]:
    """Return exported weights under the training model's names: the inverse of a family's ``to_hf_weights``.

    An export moves elements and changes none. So it is asked where it moves them: instead of weights it gets
    the numbers of their elements, and what it returns says which element is where.
    """
    with torch.device("meta"):
        names = build_model(base).saved_weights()
    numbers, first = {}, 1  # 0 is what the export adds, such as biases that the model has not
    for name, weight in names.items():
        numbers[name] = torch.arange(first, first + weight.numel()).view(weight.shape)
        first += weight.numel()
    flat = torch.full((first,), torch.nan)
    for name, places in load_hf(base.architecture).to_hf_weights(numbers, model_config).items():
        if name not in exported or places.dtype != torch.int64:  # a tied copy, or fixed positions
            continue
        weight = exported[name]
        if weight.shape != places.shape:
            raise UserError(
                f"{where}: {name} has the shape {tuple(weight.shape)}, but by config.json it is {tuple(places.shape)}"
            )
        flat[places.flatten()] = weight.float().flatten()
    missing = [name for name, own in numbers.items() if flat[own.flatten()].isnan().any()]
    if missing:
        raise UserError(
            f"{where}: model.safetensors has no weights for {missing[0]}, or some are NaN"
        )
    return {name: flat[own.flatten()].view(own.shape) for name, own in numbers.items()}
