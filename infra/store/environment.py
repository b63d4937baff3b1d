"""``${NAME}`` in a recipe: the value is used, the reference is stored.

The process that reads a recipe expands its references from its own environment. What it writes down
(run records, reports, job files, Prefect's parameters) holds the references, and ``mask`` replaces
the values in messages by them.
"""

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

from infra.errors import UserError
from infra.store.cache_dir import ENV_VAR, cache_root

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
MIN_MASKED_CHARS = 4  # a shorter value stands for nothing secret, and is part of many words
# The types whose errors are treated differently by those who catch them.
_MASKED_TYPES = (UserError, FileNotFoundError, PermissionError, FileExistsError, OSError)

_references: dict[str, str] = {}  # value -> reference, of all that this process has expanded


def expand(value: Any) -> Any:
    """Replace ``${NAME}`` and ``${NAME:-default}`` in all strings of a JSON value.

    ``${GRISTMILL_CACHE}`` always has a value: the cache folder of this machine.

    Raises:
        ValueError: if a variable is not set and has no default.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(_lookup, value)
    if isinstance(value, dict):
        return {key: expand(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [expand(item) for item in value]
    return value


def has_reference(value: Any) -> bool:
    """Whether a string of a JSON value refers to the environment."""
    if isinstance(value, dict):
        return any(map(has_reference, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_reference, value))
    return isinstance(value, str) and _REFERENCE.search(value) is not None


def mask(value: Any) -> Any:
    """Replace what ``expand`` has read from the environment by its reference, in all strings."""
    if isinstance(value, str):
        for text in sorted(_references, key=len, reverse=True):
            value = value.replace(text, _references[text])
    elif isinstance(value, dict):
        return {key: mask(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        return [mask(item) for item in value]
    return value


@contextmanager
def mask_errors() -> Iterator[None]:
    """Replace an error whose message or cause shows a value of the environment by a masked one."""
    try:
        yield
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        if mask(text) == text:
            raise
        kind = next((kind for kind in _MASKED_TYPES if isinstance(error, kind)), RuntimeError)
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise kind(mask(message)) from None


def _lookup(match: re.Match[str]) -> str:
    name, default = match.groups()
    value = os.environ.get(name)
    if not value and default is not None:
        return str(default)
    if name == ENV_VAR:
        return value or str(cache_root())
    if value is None:
        raise ValueError(f"the environment has no {name}; set it, or write ${{{name}:-default}}")
    for form in (value, quote(value, safe=""), unquote(value)):
        if len(form) >= MIN_MASKED_CHARS:
            _references[form] = f"${{{name}}}"
    return value
