"""Make and load Hugging Face models: by transformers' classes, or by a family's own modeling file.

The folder of such a model has a copy of that file, which others run with ``trust_remote_code=True``.
Here the module of this project is used: code from a store is never run.
"""

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

OWN_MODEL_TYPE = re.compile(r"gristmill-([a-z0-9_-]+)")  # a package, - for each dot


def new_model(config: Any, auto_class: str) -> Any:
    """Return a model with fresh weights from its Hugging Face configuration.

    ``auto_class`` is the class of transformers that finds the model's, such as ``AutoModelForCausalLM``.
    """
    import transformers

    own_class = _own_class(config.model_type)
    if own_class is not None:
        return own_class(config)
    return getattr(transformers, auto_class).from_config(config)


def load_model(folder: Path) -> Any:
    """Load an exported folder, in fp32, for evaluation."""
    import transformers

    config = json.loads((folder / "config.json").read_bytes())
    loader = _own_class(config["model_type"])
    if loader is None:
        loader = getattr(transformers, config["architectures"][0])
    return loader.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def _own_class(model_type: str) -> Any:
    """Return the class of a family's own modeling file; ``None`` if transformers have one."""
    from transformers import AutoConfig

    own = OWN_MODEL_TYPE.fullmatch(model_type)
    if own is None:
        return None
    result = import_module(f"lm.models.{own[1].replace('-', '.')}.hf").model_class()
    # For what reads the configuration without the model, as AutoTokenizer does.
    AutoConfig.register(model_type, result.config_class, exist_ok=True)
    return result
