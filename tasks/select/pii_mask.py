"""Replace personal data by its kind: ``<EMAIL>``, ``<IP>``, ``<PHONE>``, ``<CARD>``, ``<IBAN>``.

The replacement is a function of the kind alone, so equal texts stay equal and nothing of the value
remains. Repeated text is cut in the same pass, since both are offsets into the original text.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa

from infra.schemas.annotations import PII_COLUMNS

Span = Mapping[str, Any]  # start and end in characters, kind
Cut = Sequence[int]  # start and end in characters


@dataclass(frozen=True)
class Edit:
    """Replace characters ``start`` to ``end`` of a text by the placeholders of ``kinds``."""

    start: int
    end: int
    kinds: tuple[str, ...] = ()

    @property
    def replacement(self) -> str:
        """The new text of the span; empty if there are no kinds."""
        return "".join(f"<{kind.upper()}>" for kind in self.kinds)


def merge_spans(spans: Sequence[Span]) -> list[tuple[int, int, str]]:
    """Return ``(start, end, kind)`` in order; overlapping spans are merged under the first's kind."""
    out: list[tuple[int, int, str]] = []
    for span in sorted(spans, key=lambda span: (span["start"], -span["end"], span["kind"])):
        if out and span["start"] < out[-1][1]:
            start, end, kind = out[-1]
            out[-1] = (start, max(end, span["end"]), kind)
        else:
            out.append((span["start"], span["end"], span["kind"]))
    return out


def merge_cuts(cuts: Sequence[Cut]) -> list[tuple[int, int]]:
    """Return cuts in order; overlapping or adjacent ones are merged."""
    out: list[tuple[int, int]] = []
    for start, end in sorted((cut[0], cut[1]) for cut in cuts):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def extend_to_whitespace(text: str, cuts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return cuts that include the white space they would leave at either end of the text."""
    out = list(cuts)
    head, n_leading = 0, 0
    while n_leading < len(out) and not text[head : out[n_leading][0]].strip():
        head = out[n_leading][1]
        n_leading += 1
    if n_leading:
        rest = text[head:]
        out = [(0, head + len(rest) - len(rest.lstrip())), *out[n_leading:]]
    tail, first_trailing = len(text), len(out)
    while first_trailing and not text[out[first_trailing - 1][1] : tail].strip():
        first_trailing -= 1
        tail = out[first_trailing][0]
    if first_trailing < len(out):
        out = [*out[:first_trailing], (len(text[:tail].rstrip()), len(text))]
    return merge_cuts(out)


def plan_edits(spans: Sequence[Span], cuts: Sequence[Cut] = ()) -> list[Edit]:
    """Return the edits that mask spans and cut text, ordered and disjoint.

    A span inside a cut is removed with it. A span that extends beyond a cut is removed as a whole
    and replaced by its placeholder.
    """
    merged = merge_cuts(cuts)
    edits = [Edit(start, end) for start, end in merged]
    starts = [start for start, _ in merged]
    for start, end, kind in merge_spans(spans):
        index = bisect_right(starts, start) - 1
        if index < 0 or end > merged[index][1]:
            edits.append(Edit(start, end, (kind,)))
    out: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if out and edit.start < out[-1].end:
            last = out[-1]
            out[-1] = Edit(last.start, max(last.end, edit.end), last.kinds + edit.kinds)
        else:
            out.append(edit)
    return out


def apply_edits(text: str, spans: Sequence[Span], cuts: Sequence[Cut] = ()) -> str:
    """Return the text with every span replaced and every cut removed."""
    pieces = []
    position = 0
    for edit in plan_edits(spans, cuts):
        pieces += [text[position : edit.start], edit.replacement]
        position = edit.end
    return "".join([*pieces, text[position:]])


def map_offsets(
    offsets: Sequence[int], spans: Sequence[Span], cuts: Sequence[Cut] = ()
) -> list[int]:
    """Map offsets of the original text to the text that `apply_edits` returns.

    An offset inside a replaced or cut span maps to the start of the span.
    """
    edits = plan_edits(spans, cuts)
    ends = [edit.end for edit in edits]
    growth = list(
        accumulate((len(edit.replacement) - (edit.end - edit.start) for edit in edits), initial=0)
    )
    out = []
    for offset in offsets:
        before = bisect_left(ends, offset + 1)  # edits that end at or before the offset
        inside = before < len(edits) and edits[before].start < offset
        out.append((edits[before].start if inside else offset) + growth[before])
    return out


def edit_document(
    document: Mapping[str, Any],
    spans: Mapping[str, Sequence[Span] | None],
    cuts: Sequence[Cut] = (),
) -> tuple[dict[str, Any], dict[str, int]]:
    """Edit ``text``, ``title`` and ``chapters`` of a document; count the masked spans by kind.

    Args:
        document: these three columns; ``title`` and ``chapters`` may be ``None``.
        spans: the columns ``PII_COLUMNS``; those of chapters have the index of their ``chapter``.
        cuts: spans to cut from the text.
    """
    text, title, chapters = (spans.get(name) or () for name in PII_COLUMNS)
    by_chapter: dict[int, list[Span]] = {}
    for span in chapters:
        by_chapter.setdefault(span["chapter"], []).append(span)
    original = document["chapters"] or ()
    starts = map_offsets([chapter["start"] for chapter in original], text, cuts)
    masked = {
        "text": apply_edits(document["text"], text, cuts),
        "title": document["title"] and apply_edits(document["title"], title),
        "chapters": document["chapters"]
        and [
            {**chapter, "title": apply_edits(chapter["title"], by_chapter[index]), "start": start}
            if index in by_chapter
            else {**chapter, "start": start}
            for index, (chapter, start) in enumerate(zip(original, starts, strict=True))
        ],
    }
    kinds = [kind for edit in plan_edits(text, cuts) for kind in edit.kinds]
    kinds += [kind for s in (title, *by_chapter.values()) for *_, kind in merge_spans(s)]
    return masked, dict(sorted(Counter(kinds).items()))


def edit_documents(
    documents: pa.Table, annotations: pa.Table | None, cuts: Mapping[int, Sequence[Cut]]
) -> tuple[pa.Table, list[dict[str, int]]]:
    """Mask personal data, cut repeated text and move the starts of chapters accordingly.

    Args:
        documents: n rows.
        annotations: theirs; ``None`` masks nothing.
        cuts: spans to cut from texts, by row.

    Returns:
        The documents, and the number of masked spans by kind for each.
    """
    kinds: list[dict[str, int]] = [{} for _ in range(documents.num_rows)]
    all_spans: list[dict[str, Any]] = [{} for _ in kinds]
    if annotations is not None:
        all_spans = annotations.select(PII_COLUMNS).to_pylist()
    changed = [row for row, spans in enumerate(all_spans) if row in cuts or any(spans.values())]
    if not changed:
        return documents, kinds
    rows = documents.select(["text", "title", "chapters"]).to_pylist()
    for row in changed:
        rows[row], kinds[row] = edit_document(rows[row], all_spans[row], cuts.get(row, ()))
    for name in ("text", "title", "chapters"):
        field = documents.schema.field(name)
        column = pa.array([row[name] for row in rows], field.type)
        documents = documents.set_column(documents.column_names.index(name), field, column)
    return documents, kinds
