"""Personal data replaced by its kind: ``<EMAIL>``, ``<IP>``, ``<PHONE>``, ``<CARD>``, ``<IBAN>``.

The replacement is a function of the kind alone, so equal texts stay equal and nothing of the value
is left. What is to be cut out of a text goes in the same pass: both are offsets into the original.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa

from infra.schemas.annotations import PII_COLUMNS

Span = Mapping[str, Any]
Cut = Sequence[int]  # first character, and the first after it


@dataclass(frozen=True)
class Edit:
    """Characters ``start`` to ``end`` of a text become the masks of these kinds; of none, nothing."""

    start: int
    end: int
    kinds: tuple[str, ...] = ()

    @property
    def replacement(self) -> str:
        """What stands there afterwards."""
        return "".join(pii_placeholder(kind) for kind in self.kinds)


def pii_placeholder(kind: str) -> str:
    """What stands for a span of this kind."""
    return f"<{kind.upper()}>"


def merge_spans(spans: Sequence[Span]) -> list[tuple[int, int, str]]:
    """``(start, end, kind)`` in order; spans that overlap become one, of the first one's kind."""
    out: list[tuple[int, int, str]] = []
    for span in sorted(spans, key=lambda span: (span["start"], -span["end"], span["kind"])):
        if out and span["start"] < out[-1][1]:
            start, end, kind = out[-1]
            out[-1] = (start, max(end, span["end"]), kind)
        else:
            out.append((span["start"], span["end"], span["kind"]))
    return out


def merge_cuts(cuts: Sequence[Cut]) -> list[tuple[int, int]]:
    """Cuts in order, those that overlap or touch made one."""
    out: list[tuple[int, int]] = []
    for start, end in sorted((cut[0], cut[1]) for cut in cuts):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def plan_edits(spans: Sequence[Span], cuts: Sequence[Cut] = ()) -> list[Edit]:
    """What masking and cutting come to, in order and apart from each other.

    A span that lies in a cut is gone with it. One that reaches out of it is gone as a whole, and
    its mask stands in its place.
    """
    gone = merge_cuts(cuts)
    found = [Edit(start, end) for start, end in gone]
    starts = [start for start, _ in gone]
    for start, end, kind in merge_spans(spans):
        place = bisect_right(starts, start) - 1
        if place < 0 or end > gone[place][1]:
            found.append(Edit(start, end, (kind,)))
    out: list[Edit] = []
    for edit in sorted(found, key=lambda edit: (edit.start, edit.end)):
        if out and edit.start < out[-1].end:
            last = out[-1]
            out[-1] = Edit(last.start, max(last.end, edit.end), last.kinds + edit.kinds)
        else:
            out.append(edit)
    return out


def apply_edits(text: str, spans: Sequence[Span], cuts: Sequence[Cut] = ()) -> str:
    """The text with every span replaced and every cut left out.

    Args:
        text: a document's text.
        spans: ``{"start", "end", "kind"}`` each, in characters of ``text``.
        cuts: ``(start, end)`` each, likewise.
    """
    pieces = []
    at = 0
    for edit in plan_edits(spans, cuts):
        pieces += [text[at : edit.start], edit.replacement]
        at = edit.end
    return "".join([*pieces, text[at:]])


def map_offsets(
    offsets: Sequence[int], spans: Sequence[Span], cuts: Sequence[Cut] = ()
) -> list[int]:
    """Where offsets of the original text lie in the one that `apply_edits` gives.

    An offset inside of what was replaced or cut moves to the start of it.
    """
    done = plan_edits(spans, cuts)
    ends = [edit.end for edit in done]
    growth = list(
        accumulate((len(edit.replacement) - (edit.end - edit.start) for edit in done), initial=0)
    )
    out = []
    for offset in offsets:
        before = bisect_left(ends, offset + 1)  # edits that end at or before the offset
        inside = before < len(done) and done[before].start < offset
        out.append((done[before].start if inside else offset) + growth[before])
    return out


def edit_document(
    document: Mapping[str, Any],
    spans: Mapping[str, Sequence[Span] | None],
    cuts: Sequence[Cut] = (),
) -> tuple[dict[str, Any], dict[str, int]]:
    """A document's masked ``text``, ``title`` and ``chapters``, and how many spans of each kind went.

    Args:
        document: these three; ``title`` and ``chapters`` may be ``None``.
        spans: ``pii`` (of the text), ``pii_title`` and ``pii_chapters``, whose spans name their
            ``chapter`` by its place.
        cuts: what is cut out of the text.
    """
    text, title, chapters = (spans.get(name) or () for name in PII_COLUMNS)
    by_chapter: dict[int, list[Span]] = {}
    for span in chapters:
        by_chapter.setdefault(span["chapter"], []).append(span)
    old = document["chapters"] or ()
    starts = map_offsets([chapter["start"] for chapter in old], text, cuts)
    masked = {
        "text": apply_edits(document["text"], text, cuts),
        "title": document["title"] and apply_edits(document["title"], title),
        "chapters": document["chapters"]
        and [
            {**chapter, "title": apply_edits(chapter["title"], by_chapter[place]), "start": start}
            if place in by_chapter
            else {**chapter, "start": start}
            for place, (chapter, start) in enumerate(zip(old, starts, strict=True))
        ],
    }
    kinds = [kind for edit in plan_edits(text, cuts) for kind in edit.kinds]
    kinds += [kind for s in (title, *by_chapter.values()) for *_, kind in merge_spans(s)]
    return masked, dict(sorted(Counter(kinds).items()))


def edit_documents(
    documents: pa.Table, annotations: pa.Table | None, cuts: Mapping[int, Sequence[Cut]]
) -> tuple[pa.Table, list[dict[str, int]]]:
    """Documents with personal data masked, repeated text cut out and chapters moved along.

    Args:
        documents: n rows.
        annotations: their annotations; ``None`` masks nothing.
        cuts: what is cut out of texts, by row.

    Returns:
        The documents, and per document how many spans of each kind were masked.
    """
    kinds: list[dict[str, int]] = [{} for _ in range(documents.num_rows)]
    found: list[dict[str, Any]] = [{} for _ in kinds]
    if annotations is not None:
        found = annotations.select(PII_COLUMNS).to_pylist()
    touched = [row for row, spans in enumerate(found) if row in cuts or any(spans.values())]
    if not touched:
        return documents, kinds
    rows = documents.select(["text", "title", "chapters"]).to_pylist()
    for row in touched:
        rows[row], kinds[row] = edit_document(rows[row], found[row], cuts.get(row, ()))
    for name in ("text", "title", "chapters"):
        field = documents.schema.field(name)
        column = pa.array([row[name] for row in rows], field.type)
        documents = documents.set_column(documents.column_names.index(name), field, column)
    return documents, kinds
