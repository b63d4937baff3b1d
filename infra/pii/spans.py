"""From a column of texts to a column of personal-data spans."""

from bisect import bisect_left
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.formats.arrow_text import utf8_buffers
from infra.pii import candidate_scan
from infra.pii.detectors import KINDS, PiiSpan, detect
from infra.pii.folding import fold_table, trigger_bytes
from infra.schemas.annotations import CHAPTER_SPANS_TYPE, SPANS_TYPE

_BYTES_PER_WINDOW = 256  # fewer than text has on average, for the size of the first buffer


def resolve_overlaps(spans: list[PiiSpan]) -> list[PiiSpan]:
    """Spans that do not overlap, in the order of the text.

    Of overlapping spans the one whose kind is first in ``KINDS`` is kept; of one kind the longer,
    then the earlier.
    """
    rank = {kind: index for index, kind in enumerate(KINDS)}
    kept: list[tuple[int, int, str]] = []
    for kind, start, end in sorted(
        set(spans), key=lambda item: (rank[item[0]], item[1] - item[2], item[1])
    ):
        index = bisect_left(kept, (start,))
        after_last = index == 0 or kept[index - 1][1] <= start
        if after_last and (index == len(kept) or end <= kept[index][0]):
            kept.insert(index, (start, end, kind))
    return [(kind, start, end) for start, end, kind in kept]


def find_pii(text: "pa.Array[Any] | pa.ChunkedArray[Any]") -> "pa.Array[Any]":
    """Return a list of (start, end, kind) for each text.

    Offsets are in characters, as Python slices the text, ascending and without overlap; ``kind`` is
    one of ``detectors.KINDS``.
    """
    offsets, data = utf8_buffers(text)
    tables = fold_table(), trigger_bytes()
    capacity = int(offsets[-1] - offsets[0]) // _BYTES_PER_WINDOW + 1
    proposed = np.empty((capacity, 4), np.int64)
    count = candidate_scan.scan_candidates(offsets, data, *tables, proposed)
    if count > len(proposed):
        proposed = np.empty((count, 4), np.int64)
        candidate_scan.scan_candidates(offsets, data, *tables, proposed)
    rows: list[list[dict[str, Any]]] = [[] for _ in range(offsets.size - 1)]
    bounds = np.searchsorted(proposed[:count, 0], np.arange(offsets.size))
    for row in np.flatnonzero(np.diff(bounds)).tolist():
        start, end = int(offsets[row]), int(offsets[row + 1])
        document = data[start:end].tobytes()
        spans = [
            (first, span)
            for _, kind, first, last in proposed[bounds[row] : bounds[row + 1]].tolist()
            for span in detect(kind, document, first - start, last - start)
        ]
        if not spans:
            continue
        firsts = np.unique([first for first, _ in spans])
        characters = firsts.copy()
        candidate_scan.to_char_offsets(data, start, characters)
        offset = dict(zip(firsts.tolist(), characters.tolist(), strict=True))
        rows[row] = [
            {"start": begin, "end": stop, "kind": kind}
            for kind, begin, stop in resolve_overlaps(
                [(kind, offset[at] + begin, offset[at] + stop) for at, (kind, begin, stop) in spans]
            )
        ]
    return pa.array(rows, SPANS_TYPE)


def find_pii_in_chapters(chapters: "pa.ChunkedArray[Any]") -> "pa.Array[Any]":
    """Return a list of (chapter, start, end, kind) for each document: the spans of chapter titles.

    ``chapters`` holds lists of structs with a ``title``; a null counts as no chapters.
    """
    rows: list[list[dict[str, Any]]] = [[] for _ in range(len(chapters))]
    parents = pc.list_parent_indices(chapters).to_pylist()
    titles = pc.struct_field(pc.list_flatten(chapters), "title")
    first: dict[int, int] = {}
    for index, (row, spans) in enumerate(zip(parents, find_pii(titles).to_pylist(), strict=True)):
        chapter = index - first.setdefault(row, index)
        rows[row] += [{"chapter": chapter, **span} for span in spans]
    return pa.array(rows, CHAPTER_SPANS_TYPE)
