"""All columns of the stage for a table of documents."""

import pyarrow as pa

from infra.schemas.signals import SIGNALS
from tasks.annotate.config import AnnotateConfig
from tasks.annotate.language import identify
from tasks.annotate.pii.spans import CHAPTER_SPANS_TYPE, SPANS_TYPE, find_pii, find_pii_in_chapters
from tasks.annotate.signals.gopher_quality import compute_signals

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float64()),
        *((signal.name, signal.type) for signal in SIGNALS.values()),
        ("pii", SPANS_TYPE),
        ("pii_title", SPANS_TYPE),
        ("pii_chapters", CHAPTER_SPANS_TYPE),
    ]
)


def annotate_table(documents: pa.Table, config: AnnotateConfig) -> pa.Table:
    """Columns beside the documents.

    Args:
        documents: n rows with ``id``, ``text``, ``title`` and ``chapters``; a null counts as empty.
        config: the recipe's section.

    Returns:
        n rows of `SCHEMA`, in the order of the documents. Every row depends on its own document
        alone.
    """
    text = documents["text"]
    codes, scores = identify([item or "" for item in text.to_pylist()], config.lid_max_chars)
    signals = compute_signals(text)
    columns = [
        documents["id"],
        pa.array(codes, pa.string()),
        pa.array(scores, pa.float64()),
        *(pa.array(signals[name], signal.type) for name, signal in SIGNALS.items()),
        find_pii(text),
        find_pii(documents["title"]),
        find_pii_in_chapters(documents["chapters"]),
    ]
    return pa.table(columns, schema=SCHEMA)
