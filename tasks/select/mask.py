"""Personal data replaced by its kind: ``<EMAIL>``, ``<IP>``, ``<PHONE>``, ``<CARD>``, ``<IBAN>``.

The replacement is a function of the kind alone, so equal texts stay equal and nothing of the value
is left.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa

from tasks.select.judge import PRIVATE

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


def mask_document(
    document: Mapping[str, Any], spans: Mapping[str, Sequence[Span] | None]
) -> tuple[dict[str, Any], dict[str, int]]:
    """A document's masked ``text``, ``title`` and ``chapters``, and how many spans of each kind went.

    Args:
        document: these three; ``title`` and ``chapters`` may be ``None``.
        spans: ``pii`` (of the text), ``pii_title`` and ``pii_chapters``, whose spans name their
            ``chapter`` by its place.
    """
    text, title, chapters = (spans.get(name) or () for name in PRIVATE)
    by_chapter: dict[int, list[Span]] = {}
    for span in chapters:
        by_chapter.setdefault(span["chapter"], []).append(span)
    old = document["chapters"] or ()
    starts = moved([chapter["start"] for chapter in old], text)
    masked = {
        "text": mask(document["text"], text),
        "title": document["title"] and mask(document["title"], title),
        "chapters": document["chapters"]
        and [
            {**chapter, "title": mask(chapter["title"], by_chapter[place]), "start": start}
            if place in by_chapter
            else {**chapter, "start": start}
            for place, (chapter, start) in enumerate(zip(old, starts, strict=True))
        ],
    }
    all_spans = (text, title, *by_chapter.values())
    return masked, dict(sorted(Counter(kind for s in all_spans for *_, kind in merged(s)).items()))


def mask_documents(
    documents: pa.Table, notes: pa.Table
) -> tuple[pa.Table, list[dict[str, Any] | None]]:
    """Documents with personal data masked and chapters moved along.

    Args:
        documents: n rows.
        notes: their annotations.

    Returns:
        The documents, and per document what was masked, as evidence; ``None`` where nothing was.
    """
    found = notes.select(PRIVATE).to_pylist()
    proof: list[dict[str, Any] | None] = [None] * len(found)
    if not any(any(spans.values()) for spans in found):
        return documents, proof
    rows = documents.select(["text", "title", "chapters"]).to_pylist()
    for place, spans in enumerate(found):
        if any(spans.values()):
            rows[place], kinds = mask_document(rows[place], spans)
            proof[place] = {"masked": kinds}
    for name in ("text", "title", "chapters"):
        field = documents.schema.field(name)
        column = pa.array([row[name] for row in rows], field.type)
        documents = documents.set_column(documents.column_names.index(name), field, column)
    return documents, proof
