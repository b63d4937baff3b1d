"""Texts of requests become tokens on a thread: a long one takes seconds, in which other requests go on."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from lm.models.model_kind import SEQ2SEQ
from serve.api.errors import ApiError
from serve.models import SOURCE_ROOM, ServedModel

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


def max_prompt_tokens(model: ServedModel) -> int:
    """Return how many tokens a model reads at most; for those that are added around a text an encoder has room."""
    return model.context_length + (SOURCE_ROOM if model.kind == SEQ2SEQ.name else 0)


def check_text_length(text: str, model: ServedModel, field: str) -> None:
    """Raise ``ApiError`` if a text has certainly more tokens than a model reads at once."""
    min_tokens = model.length_bound.min_tokens(text)
    if min_tokens > max_prompt_tokens(model):
        raise _too_long(f"at least {min_tokens}", model, field)


def check_length(num_tokens: int, model: ServedModel, field: str) -> None:
    """Raise ``ApiError`` if a model does not read so many tokens at once."""
    if num_tokens > max_prompt_tokens(model):
        raise _too_long(str(num_tokens), model, field)


def _too_long(num_tokens: str, model: ServedModel, field: str) -> ApiError:
    return ApiError(
        400,
        f"{field}: {num_tokens} tokens; {model.name} reads at most {max_prompt_tokens(model)}",
        param=field,
        code="context_length_exceeded",
    )
