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

from lm.models.transformers_lock import TRANSFORMERS_LOCK

HEAD_SUFFIXES = ("", "ForSequenceClassification", "ForTokenClassification")
OWN_MODEL_TYPE = re.compile(r"gristmill-([a-z0-9_-]+)")  # a package, - for each dot


def new_model(config: Any, auto_class: str) -> Any:
    """Return a model with fresh weights from its Hugging Face configuration.

    ``auto_class`` is the class of transformers that finds the model's, such as ``AutoModelForCausalLM``.
    """
    import transformers

    own_class = _own_class(config.model_type, auto_class.removeprefix("AutoModel"))
    if own_class is not None:
        return own_class(config)
    return getattr(transformers, auto_class).from_config(config)


def load_model(folder: Path) -> Any:
    """Load an exported folder, in fp32, for evaluation."""
    import transformers

    config = json.loads((folder / "config.json").read_bytes())
    name = config["architectures"][0]
    loader = _own_class(config["model_type"], name[name.find("For") :] if "For" in name else "")
    if loader is None:
        loader = getattr(transformers, name)
    return loader.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def load_with_tokenizer(folder: Path) -> tuple[Any, Any]:
    """Load an exported folder's model, as ``load_model`` does, and its tokenizer."""
    with TRANSFORMERS_LOCK:
        from transformers import AutoTokenizer

        model = load_model(folder)  # before the tokenizer, which reads the configuration, too
        tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    return model, tokenizer


def _own_class(model_type: str, suffix: str) -> Any:
    """Return the class of a family's own modeling files; ``None`` if transformers have one.

    ``suffix`` says for which task, such as ``ForCausalLM``; it is empty for hidden states.
    """
    from transformers import AutoConfig

    own = OWN_MODEL_TYPE.fullmatch(model_type)
    if own is None:
        return None
    hf = import_module(f"lm.models.{own[1].replace('-', '.')}.hf")
    result = hf.model_class()
    stem = result.__name__.partition("For")[0]
    # For what reads the configuration without the model, as AutoTokenizer does.
    AutoConfig.register(model_type, result.config_class, exist_ok=True)
    if suffix in HEAD_SUFFIXES:
        result = getattr(hf.head_module(), f"{stem}{suffix or 'Model'}")
    return result
