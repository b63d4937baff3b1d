"""The table of captures: web pages as ``acquire`` stores them and ``extract`` reads them."""

import pyarrow as pa

# The suffix of a part's archive.
WARC_SUFFIX = "warc.gz"

# The columns that locate a capture's record in the archive. They can change when an unchanged page is
# fetched again.
POSITION_COLUMNS = ("offset", "length")

# One row per capture. `offset` and `length` locate its record, one gzip member, in bytes of the
# archive; `payload_digest` is SHA-256 in hexadecimal.
CAPTURE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("status", pa.int16()),
        ("content_type", pa.string()),
        ("content_language", pa.string()),
        ("robots_tag", pa.string()),
        ("license_hint", pa.string()),
        ("payload_digest", pa.string()),
        ("payload_bytes", pa.int64()),
        ("segment", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)
