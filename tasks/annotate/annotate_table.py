"""The annotations of a table of documents: language, quality signals, personal data."""

import pyarrow as pa

from infra.language_id import identify
from infra.pii.spans import find_pii, find_pii_in_chapters
from infra.schemas.annotations import ANNOTATION_SCHEMA
from infra.schemas.signals import SIGNALS
from tasks.annotate.config import AnnotateConfig
from tasks.annotate.signals.families import compute_signals


def annotate_table(documents: pa.Table, config: AnnotateConfig) -> pa.Table:
    """Return the annotations of n documents: a row of ``ANNOTATION_SCHEMA`` each.

    Reads ``id``, ``text``, ``title`` and ``chapters``; a null counts as empty. Every row depends on
    its own document alone.
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
    return pa.table(columns, schema=ANNOTATION_SCHEMA)
