"""Which models can be released in which formats."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from infra.errors import UserError
from tasks.release.model_card import find_llama_cpp_pre_tokenizer

GGUF, ONNX, INT8 = "gguf", "onnx", "int8"
# Of GPT-2 the exporter makes products with a bias, which int8 does not cover.
ARCHITECTURES = {GGUF: ("llama",), ONNX: ("llama", "gpt2"), INT8: ("llama",)}
_ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
PACKAGES = {GGUF: ("gguf", "xllamacpp"), ONNX: _ONNX_PACKAGES, INT8: _ONNX_PACKAGES}


def format_errors(
    name: str, package: str, formats: Sequence[str], tokenize: Mapping[str, Any]
) -> list[UserError]:
    """Return why a model cannot be released in these formats here.

    Args:
        name: of the model.
        package: of its architecture.
        formats: of the recipe.
        tokenize: the recipe's section, which names the pre-tokenizer.
    """
    errors = []
    for wanted in formats:
        where = f"release.formats: {wanted}: {name}"
        if package not in ARCHITECTURES[wanted]:
            known = " or ".join(ARCHITECTURES[wanted])
            errors.append(
                UserError(
                    f"{where} is of the architecture {package}, which has no such export: only {known}; leave "
                    f"the format out, or {name} out of release.models"
                )
            )
        elif wanted == GGUF and find_llama_cpp_pre_tokenizer(tokenize) is None:
            errors.append(
                UserError(
                    f"{where}: llama.cpp has no rule that divides text as the recipe's `tokenize` does; it has "
                    "those of `pretokenizer: gpt2` and `llama3` with the defaults of digits, spaces and normalization"
                )
            )
        errors += [
            UserError(
                f"{where}: {distribution} is not installed; run pip install 'gristmill[formats]'"
            )
            for distribution in PACKAGES[wanted]
            if find_spec(distribution) is None
        ]
    return errors
