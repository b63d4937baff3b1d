"""The families of models: a package of `lm.models` each, listed in one line each.

A family's package holds ``config`` (its `model` section of the recipe), ``model`` (with
``build_model``) and, if Hugging Face's transformers have such a model, ``hf`` (how it is exported).
``model`` and ``hf`` are imported by name, so that a stage's code version covers the one family that it
uses: the stage adds ``family_modules`` to its root modules.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Discriminator, Tag

from infra.form_schema import ConditionalForm
from lm.models.gpt2.config import GPT2Config
from lm.models.llama.config import LlamaConfig

if TYPE_CHECKING:
    from lm.models.causal_lm import ArchitectureConfig, CausalLM

DEFAULT_FAMILY = "llama"


def _family_name(section: Any) -> str:
    if isinstance(section, dict):
        return str(section.get("architecture", DEFAULT_FAMILY))
    return str(getattr(section, "architecture", DEFAULT_FAMILY))


# The `model` section: what it may contain follows from its architecture.
ModelConfig = Annotated[
    Annotated[LlamaConfig, Tag("llama")] | Annotated[GPT2Config, Tag("gpt2")],
    Discriminator(_family_name),
    ConditionalForm("architecture", default=DEFAULT_FAMILY),
]


def build_model(config: "ArchitectureConfig") -> "CausalLM":
    """Return a model with fresh weights, drawn from torch's generator."""
    module = import_module(f"lm.models.{config.architecture}.model")
    return cast("CausalLM", module.build_model(config))


def load_hf(architecture: str) -> Any:
    """Return a family's ``hf`` module; ``None`` if transformers have no such model."""
    return next(map(import_module, hf_modules(architecture)), None)


def family_modules(architecture: str) -> tuple[str, ...]:
    """Return the modules that decide the weights of a family's models: roots of the train stage."""
    return (f"lm.models.{architecture}.config", f"lm.models.{architecture}.model")


def hf_modules(architecture: str) -> tuple[str, ...]:
    """Return the modules that decide how a family is exported: roots of the release stage."""
    name = f"lm.models.{architecture}.hf"
    return (name,) if find_spec(name) else ()
