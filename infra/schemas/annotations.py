"""The columns that ``annotate`` writes beside the documents and ``select`` reads."""

import pyarrow as pa

from infra.schemas.signals import SIGNALS

# A span of personal data: character offsets as Python slices the text, and the kind of data.
SPAN_TYPE = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("kind", pa.string())])
SPANS_TYPE = pa.list_(SPAN_TYPE)
# A span in a chapter title: `chapter` is the chapter's index in its document.
CHAPTER_SPANS_TYPE = pa.list_(pa.struct([("chapter", pa.int64()), *SPAN_TYPE]))

# Spans of personal data in the text, in the title and in the chapter titles.
PII_COLUMNS = ("pii", "pii_title", "pii_chapters")

ANNOTATION_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float64()),
        *((signal.name, signal.type) for signal in SIGNALS.values()),
        *zip(PII_COLUMNS, (SPANS_TYPE, SPANS_TYPE, CHAPTER_SPANS_TYPE), strict=True),
    ]
)
