"""Personal data replaced by its kind: ``<EMAIL>``, ``<IP>``, ``<PHONE>``, ``<CARD>``, ``<IBAN>``.

The replacement is a function of the kind alone, so equal texts stay equal and nothing of the value
is left.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

Span = Mapping[str, Any]


def replacement(kind: str) -> str:
    """What stands for a span of this kind."""
    return f"<{kind.upper()}>"


def merged(spans: Sequence[Span]) -> list[tuple[int, int, str]]:
    """``(start, end, kind)`` in order; spans that overlap become one, of the first one's kind."""
    out: list[tuple[int, int, str]] = []
    for span in sorted(spans, key=lambda span: (span["start"], -span["end"], span["kind"])):
        if out and span["start"] < out[-1][1]:
            start, end, kind = out[-1]
            out[-1] = (start, max(end, span["end"]), kind)
        else:
            out.append((span["start"], span["end"], span["kind"]))
    return out


def mask(text: str, spans: Sequence[Span]) -> str:
    """The text with every span replaced.

    Args:
        text: a document's text.
        spans: ``{"start", "end", "kind"}`` each, in characters of ``text``.
    """
    pieces = []
    at = 0
    for start, end, kind in merged(spans):
        pieces += [text[at:start], replacement(kind)]
        at = end
    return "".join([*pieces, text[at:]])


def moved(offsets: Sequence[int], spans: Sequence[Span]) -> list[int]:
    """Where offsets of the original text lie in the masked one.

    An offset inside a span moves to the start of its replacement.
    """
    cuts = merged(spans)
    ends = [end for _, end, _ in cuts]
    growth = list(
        accumulate((len(replacement(kind)) - (end - start) for start, end, kind in cuts), initial=0)
    )
    out = []
    for offset in offsets:
        before = bisect_left(ends, offset + 1)  # spans that end at or before the offset
        inside = before < len(cuts) and cuts[before][0] < offset
        out.append((cuts[before][0] if inside else offset) + growth[before])
    return out
