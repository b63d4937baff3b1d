"""Texts of requests become tokens on a thread: a long one takes seconds, in which other requests go on."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from serve.api.errors import ApiError
from serve.models import ServedModel

T = TypeVar("T")


async def encode(texts: Iterable[str], model: ServedModel, field: str, make: Callable[[], T]) -> T:
    """Return what ``make`` returns, which tokenizes some texts, unless one is certainly too long.

    Args:
        texts: each of them to be read as a whole.
        model: that reads them.
        field: that they came in.
        make: is called on a thread.

    Raises:
        ApiError: if the context cannot hold one of them.
    """
    for text in texts:
        check_text_length(text, model, field)
    return await asyncio.to_thread(make)


def check_text_length(text: str, model: ServedModel, field: str) -> None:
    """Raise ``ApiError`` if a text has certainly more tokens than a model reads at once."""
    min_tokens = model.length_bound.min_tokens(text)
    if min_tokens > model.max_prompt_tokens:
        raise _too_long(f"at least {min_tokens}", model, field)


def check_length(num_tokens: int, model: ServedModel, field: str) -> None:
    """Raise ``ApiError`` if a model does not read so many tokens at once."""
    if num_tokens > model.max_prompt_tokens:
        raise _too_long(str(num_tokens), model, field)


def _too_long(num_tokens: str, model: ServedModel, field: str) -> ApiError:
    return ApiError(
        400,
        f"{field}: {num_tokens} tokens; {model.name} reads at most {model.max_prompt_tokens}",
        param=field,
        code="context_length_exceeded",
    )
