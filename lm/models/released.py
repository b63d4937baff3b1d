"""Load a released folder as a base: its sizes, and its weights under the training model's names."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from infra.errors import UserError
from lm.models.neural_lm import ArchitectureConfig
from lm.models.registry import build_model, config_class, load_hf

MODEL_CONFIG_KEY = "gristmill_model_config"  # in config.json of a released folder


@dataclass(frozen=True)
class ReleasedModel:
    """A language model that Gristmill released.

    Attributes:
        model_config: the architecture, as a trained model has it.
        weights: fp32 tensors by the training model's names, without a tied head.
        tokenizer: ``tokenizer.json``.
        eos_id: the id that ends documents.
    """

    model_config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    tokenizer: bytes
    eos_id: int


def load_released(read: Callable[[str], bytes], where: str) -> ReleasedModel:
    """Read a released folder.

    Args:
        read: returns the content of a file of the folder, by its name.
        where: the folder, for messages.

    Raises:
        UserError: if it is no language model that Gristmill released, or its weights were changed in a way
            that its sizes do not have.
    """
    config = json.loads(read("config.json"))
    model_config = config.get(MODEL_CONFIG_KEY)
    if model_config is None:
        raise UserError(
            f"{where}: config.json has no {MODEL_CONFIG_KEY}: only models that Gristmill released can be a base"
        )
    if "head" in model_config:
        raise UserError(
            f"{where} has the head of the task {model_config['head']['task']}; take the language model that it "
            "was fine-tuned from"
        )
    eos = config["eos_token_id"]
    base = config_class(model_config["architecture"])(
        **{name: value for name, value in model_config.items() if name != "added_tokens"}
    )
    weights = from_hf_weights(load(read("model.safetensors")), base, model_config, where)
    return ReleasedModel(
        model_config,
        weights,
        read("tokenizer.json"),
        int(eos[0] if isinstance(eos, list) else eos),
    )


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
