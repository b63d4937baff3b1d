"""From a column of texts to a column of personal-data spans."""

from bisect import bisect_left
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.formats.arrow_text import utf8_buffers
from infra.schemas.annotations import CHAPTER_SPANS_TYPE, SPANS_TYPE
from tasks.annotate.pii import candidate_scan
from tasks.annotate.pii.detectors import KINDS, PiiSpan, detect

_INITIAL_WINDOWS = 1 << 12


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
    proposed = np.empty((_INITIAL_WINDOWS, 4), np.int64)
    count = candidate_scan.scan_candidates(offsets, data, proposed)
    if count > len(proposed):
        proposed = np.empty((count, 4), np.int64)
        candidate_scan.scan_candidates(offsets, data, proposed)
    rows: list[list[dict[str, Any]]] = [[] for _ in range(offsets.size - 1)]
    bounds = np.searchsorted(proposed[:count, 0], np.arange(offsets.size))
    for row, spans in enumerate(rows):
        windows = proposed[bounds[row] : bounds[row + 1]]
        if not len(windows):
            continue
        start, end = int(offsets[row]), int(offsets[row + 1])
        document = data[start:end].tobytes()
        spans_in_text = [
            item
            for _, kind, first, last in windows.tolist()
            for item in detect(kind, document, first - start, last - start)
        ]
        if not spans_in_text:
            continue
        resolved = resolve_overlaps(spans_in_text)
        positions = np.array([index for item in resolved for index in item[1:]], np.int64) + start
        candidate_scan.to_char_offsets(data, start, positions)
        spans.extend(
            {"start": int(positions[2 * k]), "end": int(positions[2 * k + 1]), "kind": item[0]}
            for k, item in enumerate(resolved)
        )
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
