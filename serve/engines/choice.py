"""Which engine runs a model."""

import logging
from collections.abc import Awaitable
from importlib.util import find_spec

from infra.errors import UserError
from lm.models.model_kind import CAUSAL
from serve.engines.batched.engine import TorchEngine
from serve.engines.lazy import LazyEngine
from serve.engines.llama_cpp import LlamaCppEngine
from serve.hub import Engines, StartEngines
from serve.models import ServedModel

log = logging.getLogger(__name__)

AUTO, TORCH, LLAMA_CPP = "auto", "torch", "llama.cpp"
ENGINES = (AUTO, TORCH, LLAMA_CPP)
PACKAGES = ("gguf", "xllamacpp")


def engine_starter(wanted: str, slots: int) -> StartEngines:
    """Return what starts the engines of a model.

    Args:
        wanted: one of ``ENGINES``; ``auto`` is llama.cpp where it can be, and torch elsewhere.
        slots: sequences that are generated at once.
    """

    async def start(model: ServedModel) -> Engines:
        reason = _reason_against_llama_cpp(model)
        if wanted == LLAMA_CPP and reason is not None:
            raise UserError(f"--engine {LLAMA_CPP}: {model.name} {reason}; use --engine {AUTO}")
        if wanted == TORCH or reason is not None:
            log.info("%s: engine torch (%s)", model.name, reason or f"--engine {TORCH}")
            torch = await TorchEngine.start(model, slots=slots)
            return Engines(torch if model.generates else None, torch)
        log.info("%s: engine llama.cpp", model.name)

        def start_torch() -> Awaitable[TorchEngine]:
            log.info("%s: engine torch, too, for what llama.cpp does not do", model.name)
            return TorchEngine.start(model, slots=slots)

        other = LazyEngine(start_torch, TORCH, model.context_length)
        return Engines(await LlamaCppEngine.start(model, slots=slots, other=other), other)

    return start


def _reason_against_llama_cpp(model: ServedModel) -> str | None:
    """Return why llama.cpp cannot run a model; ``None`` if it can."""
    if model.kind != CAUSAL.name or model.architecture != "llama":
        return f"is of the kind {model.kind} with the layout {model.architecture}, llama.cpp gets llama"
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        return f"needs {' and '.join(missing)} for it: pip install 'gristmill[serve]'"
    return None
