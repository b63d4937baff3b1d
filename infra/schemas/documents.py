"""The columns of documents, as every source and ``extract`` write them and later stages read them."""

import pyarrow as pa

# The chapters of a book: title, and the offset of the chapter's first character in the text.
CHAPTERS_TYPE = pa.list_(pa.struct([("title", pa.string()), ("start", pa.int64())]))

# One row per document. Only `id`, `text`, `source` and `segment` are never null. `language_hint` is
# the language that the page or the source declares; `annotate` detects `language` from the text.
DOCUMENT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("url", pa.string()),
        ("date", pa.string()),
        ("source", pa.string()),
        ("title", pa.string()),
        ("language_hint", pa.string()),
        ("license", pa.string()),
        ("segment", pa.string()),
        ("chapters", CHAPTERS_TYPE),
    ]
)
