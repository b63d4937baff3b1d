"""Which documents are held out, and which train the tokenizer: draws by content, not by position.

A document's draws depend on the seed and on its text (or on its cluster of near-duplicates, so that
relatives fall on the same side). Where it lies, when it arrived and what else is in the corpus do
not matter.
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.dataset.fingerprint import hash_to_unit
from infra.formats.megatron import TRAIN, VALIDATION

Draws = npt.NDArray[np.float64]
Sizes = npt.NDArray[np.int64]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("content", pa.string()),
        ("bytes", pa.int64()),
        ("split_draw", pa.float64()),
        ("sample_draw", pa.float64()),
    ]
)


def text_list(table: pa.Table) -> list[str]:
    """The ``text`` column; a null is empty text."""
    return [text or "" for text in table["text"].to_pylist()]


def draw_documents(table: pa.Table, seed: int) -> pa.Table:
    """A row of draws for each document (``SCHEMA``).

    Args:
        table: documents with ``id`` and ``text``.
        seed: the recipe's seed.
    """
    texts = text_list(table)
    encoded = [text.encode() for text in texts]
    content = [blake2b(data, digest_size=16).hexdigest() for data in encoded]
    return pa.table(
        {
            "id": table["id"].cast(pa.string()),
            "content": content,
            "bytes": [len(data) for data in encoded],
            "split_draw": [hash_to_unit(seed, VALIDATION, own) for own in content],
            "sample_draw": [hash_to_unit(seed, "tokenizer", own) for own in content],
        },
        schema=SCHEMA,
    )


def holdout_threshold(draws: Draws, fraction: float) -> float:
    """The draw below which a document is held out.

    It is ``fraction``, moved as little as needed for each split to hold a document. A corpus whose
    documents all share one draw (one document, say) is training data; so is all of it if ``fraction``
    is 0.

    Args:
        draws: float64[documents], in [0, 1).
        fraction: share of documents to hold out.
    """
    if fraction == 0 or len(draws) == 0 or draws.min() == draws.max():
        return 0.0
    lowest = float(np.nextafter(draws.min(), 1.0))
    return min(max(fraction, lowest), float(draws.max()))


def assign_splits(draws: Draws, threshold: float) -> list[str]:
    """The split of each document, given what ``holdout_threshold`` returned."""
    return [VALIDATION if held else TRAIN for held in (draws < threshold).tolist()]


def training_bytes(
    split_draws: Draws, sample_draws: Draws, sizes: Sizes, threshold: float, max_bytes: int | None
) -> Sizes:
    """How much of each document's text, from its beginning, trains the tokenizer.

    Training documents are taken by ascending draw until ``max_bytes`` bytes are reached; the last one
    is cut to what is left. Equal texts count once each time they occur.

    Args:
        split_draws: float64[n], see ``holdout_threshold``.
        sample_draws: float64[n] the second draw.
        sizes: int64[n] bytes of each text.
        threshold: what ``holdout_threshold`` returned.
        max_bytes: bytes; ``None``: all training text.

    Returns:
        int64[n] bytes; 0: the document is not used.
    """
    used = np.where(split_draws >= threshold, sizes, 0)
    if max_bytes is None or int(used.sum()) <= max_bytes:
        return used
    train = np.flatnonzero(used)
    order = train[np.argsort(sample_draws[train], kind="stable")]
    before = np.cumsum(used[order]) - used[order]
    used[order] = np.clip(max_bytes - before, 0, used[order])
    return used
