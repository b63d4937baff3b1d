"""Choose the held-out documents and the tokenizer's training sample, by content.

A document's draws depend on the seed and on its text only: not on its position, its time of arrival
or the other documents of the corpus. Equal texts get equal draws.
"""

import numpy as np
import pyarrow as pa

from infra.compute.arrays import F64, I64
from infra.dataset.fingerprint import hash_to_unit
from infra.formats.megatron import TRAIN, VALIDATION

Draws = F64
Sizes = I64

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("content", pa.string()),
        ("bytes", pa.int64()),
        ("split_draw", pa.float64()),
        ("sample_draw", pa.float64()),
    ]
)


def draw_documents(table: pa.Table, seed: int) -> pa.Table:
    """Draw two numbers for each document; return a table of ``SCHEMA``, row-aligned.

    ``table`` has ``id`` and the digests of the texts (``infra.schemas.text_digests``).
    """
    content = table["content"].to_pylist()
    return pa.table(
        {
            "id": table["id"].cast(pa.string()),
            "content": table["content"],
            "bytes": table["bytes"],
            "split_draw": [hash_to_unit(seed, VALIDATION, digest) for digest in content],
            "sample_draw": [hash_to_unit(seed, "tokenizer", digest) for digest in content],
        },
        schema=SCHEMA,
    )


def holdout_threshold(draws: Draws, fraction: float) -> float:
    """Return the draw below which a document is held out.

    This is ``fraction``, moved as little as needed for each split to have a document. If all documents
    have the same draw (for example a single document) or ``fraction`` is 0, none is held out.
    """
    if fraction == 0 or len(draws) == 0 or draws.min() == draws.max():
        return 0.0
    lowest = float(np.nextafter(draws.min(), 1.0))
    return min(max(fraction, lowest), float(draws.max()))


def assign_splits(draws: Draws, threshold: float) -> list[str]:
    """Return the split of each document for the threshold of ``holdout_threshold``."""
    return [VALIDATION if held else TRAIN for held in (draws < threshold).tolist()]


def training_bytes(
    split_draws: Draws, sample_draws: Draws, sizes: Sizes, threshold: float, max_bytes: int | None
) -> Sizes:
    """Return how many leading bytes of each document the tokenizer is trained on.

    Documents of the training split are taken in ascending order of their second draw until
    ``max_bytes`` is reached; the last one is truncated. Equal texts count each time they occur.

    Args:
        split_draws: float64[n], the first draws.
        sample_draws: float64[n], the second draws.
        sizes: int64[n], bytes of each text.
        threshold: what ``holdout_threshold`` returned.
        max_bytes: maximum bytes in total; ``None``: all text of the training split.
    """
    used = np.where(split_draws >= threshold, sizes, 0)
    if max_bytes is None or int(used.sum()) <= max_bytes:
        return used
    train = np.flatnonzero(used)
    order = train[np.argsort(sample_draws[train], kind="stable")]
    before = np.cumsum(used[order]) - used[order]
    used[order] = np.clip(max_bytes - before, 0, used[order])
    return used
