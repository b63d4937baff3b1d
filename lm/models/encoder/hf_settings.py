"""What the exports of all encoders have in common."""

from collections.abc import Mapping
from typing import Any


def special_tokens(model_config: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids that the model has beyond the tokenizer's, by their name in transformers."""
    return {"mask_token": model_config["vocab_size"] - 1}
