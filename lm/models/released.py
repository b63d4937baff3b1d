"""What a released folder says of its language model, which may be the base of a fine-tuned one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import UserError

MODEL_CONFIG_KEY = "gristmill_model_config"  # in config.json of a released folder


CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"


@dataclass(frozen=True)
class ReleasedConfig:
    """What a released folder says of its language model, besides the weights.

    Attributes:
        model_config: the architecture, as a trained model has it.
        eos_id: the id that ends documents.
    """

    model_config: Mapping[str, Any]
    eos_id: int


def parse_released_config(content: bytes, where: str) -> ReleasedConfig:
    """Read the ``config.json`` of a released folder.

    Args:
        content: of the file.
        where: the folder, for messages.

    Raises:
        UserError: if it is no language model that Gristmill released.
    """
    try:
        config = json.loads(content)
    except ValueError as error:
        raise UserError(f"{where}: {CONFIG} is not JSON ({error})") from None
    model_config = config.get(MODEL_CONFIG_KEY) if isinstance(config, dict) else None
    if model_config is None:
        raise UserError(
            f"{where}: {CONFIG} has no {MODEL_CONFIG_KEY}: only models that Gristmill released can be a base"
        )
    if "head" in model_config:
        raise UserError(
            f"{where} has the head of the task {model_config['head']['task']}; take the language model that it "
            "was fine-tuned from"
        )
    eos = config["eos_token_id"]
    return ReleasedConfig(model_config, int(eos[0] if isinstance(eos, list) else eos))
