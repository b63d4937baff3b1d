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

OWN_MODEL_TYPE = re.compile(r"gristmill-([a-z0-9_]+)")


def new_causal_lm(config: Any) -> Any:
    """Return a model with fresh weights from its Hugging Face configuration."""
    from transformers import AutoModelForCausalLM

    own_class = _own_class(config.model_type)
    return AutoModelForCausalLM.from_config(config) if own_class is None else own_class(config)


def load_causal_lm(folder: Path) -> Any:
    """Load an exported folder, in fp32, for evaluation."""
    from transformers import AutoModelForCausalLM

    model_type = json.loads((folder / "config.json").read_bytes())["model_type"]
    loader = _own_class(model_type) or AutoModelForCausalLM
    return loader.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def _own_class(model_type: str) -> Any:
    """Return the class of a family's own modeling file; ``None`` if transformers have one."""
    from transformers import AutoConfig

    own = OWN_MODEL_TYPE.fullmatch(model_type)
    if own is None:
        return None
    result = import_module(f"lm.models.{own[1]}.hf").model_class()
    # For what reads the configuration without the model, as AutoTokenizer does.
    AutoConfig.register(model_type, result.config_class, exist_ok=True)
    return result
