"""Sliding windows, in which a text longer than the context is scored, each token once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """The model reads inputs ``[start, end)``; its predictions from ``first`` on count."""

    start: int
    first: int
    end: int


def windows(length: int, context_length: int) -> list[Window]:
    """Return the windows over a text of ``length`` predictions.

    All predictions of the first window count. The stride is half a context, so that every later
    prediction has at least ``context - context // 2`` tokens before it. Input i is the token before
    prediction i (for prediction 0, the end of text).

    Args:
        length: predictions to make, one per token of the text.
        context_length: maximum number of tokens that the model reads at once.
    """
    stride = max(1, context_length // 2)
    result = []
    first, end = 0, min(length, context_length)
    while first < length:
        result.append(Window(max(0, end - context_length), first, end))
        first, end = end, min(length, end + stride)
    return result
