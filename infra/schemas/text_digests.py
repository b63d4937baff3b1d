"""Digests of the texts of a corpus: a small file beside each part, so that nobody hashes texts twice.

`select` writes it when it holds the texts; `tokenize` draws its held-out documents by it.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from infra.dataset.dataset import PartRef
from infra.formats.arrow_text import utf8_buffers

# Suffix of the file beside a part.
DIGESTS_SUFFIX = "digests.parquet"
# One row per row of the part. content: XXH3-128 of the text in UTF-8, in hexadecimal; nine times as
# fast as BLAKE2b. It decides draws only: whether texts are equal is decided by `dedup`.
DIGESTS_SCHEMA = pa.schema([("content", pa.string()), ("bytes", pa.int64())])


def digest_texts(texts: "pa.Array[Any] | pa.ChunkedArray[Any]") -> pa.Table:
    """Return the digest and the size in bytes of each text; null counts as empty."""
    offsets, data = utf8_buffers(texts)
    view = data.data  # hashing slices of the buffer copies no text
    content = [
        xxhash.xxh3_128_hexdigest(view[start:end]) for start, end in pairwise(offsets.tolist())
    ]
    columns = [pa.array(content, pa.string()), pa.array(np.diff(offsets), pa.int64())]
    return pa.table(columns, schema=DIGESTS_SCHEMA)


def read_with_digests(part: PartRef, columns: Sequence[str]) -> pa.Table:
    """Read columns of a part of a corpus, and the digests of its texts as further columns."""
    table = part.table(columns)
    with part.open(DIGESTS_SUFFIX) as file:
        digests = pq.read_table(file, schema=DIGESTS_SCHEMA)
    for name in DIGESTS_SCHEMA.names:
        table = table.append_column(name, digests[name])
    return table
