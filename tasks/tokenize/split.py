"""Which documents are held out, and which train the tokenizer: draws by content, not by position.

A document's draws depend on the seed and on its text (or on its cluster of near-duplicates, so that
relatives fall on the same side). Where it lies, when it arrived and what else is in the corpus do
not matter.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.fingerprint import unit_interval
from infra.tokens import TRAIN, VALIDATION

Draws = npt.NDArray[np.float64]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("content", pa.string()),
        ("bytes", pa.int64()),
        ("split_draw", pa.float64()),
        ("sample_draw", pa.float64()),
    ]
)


def texts_of(table: pa.Table) -> list[str]:
    """The ``text`` column; a null is empty text."""
    return [text or "" for text in table["text"].to_pylist()]


def survey(table: pa.Table, seed: int) -> pa.Table:
    """A row of draws for each document (``SCHEMA``).

    Args:
        table: documents with ``id`` and ``text``.
        seed: the recipe's seed.
    """
    texts = texts_of(table)
    encoded = [text.encode() for text in texts]
    content = [blake2b(data, digest_size=16).hexdigest() for data in encoded]
    return pa.table(
        {
            "id": table["id"].cast(pa.string()),
            "content": content,
            "bytes": [len(data) for data in encoded],
            "split_draw": [unit_interval(seed, VALIDATION, own) for own in content],
            "sample_draw": [unit_interval(seed, "tokenizer", own) for own in content],
        },
        schema=SCHEMA,
    )


def cut(draws: Draws, share: float) -> float:
    """The draw below which a document is held out.

    It is ``share``, moved as little as needed for each split to hold a document. A corpus whose
    documents all share one draw (one document, say) is training data; so is all of it if ``share``
    is 0.

    Args:
        draws: float64[documents], in [0, 1).
        share: share of documents to hold out.
    """
    if share == 0 or len(draws) == 0 or draws.min() == draws.max():
        return 0.0
    lowest = float(np.nextafter(draws.min(), 1.0))
    return min(max(share, lowest), float(draws.max()))


def splits(draws: Draws, limit: float) -> list[str]:
    """The split of each document, given what ``cut`` returned."""
    return [VALIDATION if held else TRAIN for held in (draws < limit).tolist()]


@dataclass(frozen=True)
class Sampled:
    """A document that trains the tokenizer.

    Attributes:
        row: its position in the survey.
        bytes: how much of its text is used, from the beginning.
    """

    row: int
    bytes: int


def sample(surveyed: pa.Table, limit: float, budget: int) -> list[Sampled]:
    """Training documents by ascending draw until ``budget`` bytes of text are reached.

    The last one is cut to what is left. Equal texts count once each time they occur.

    Args:
        surveyed: rows of ``survey`` for the whole corpus.
        limit: what ``cut`` returned.
        budget: bytes.

    Returns:
        The chosen documents by ascending row.
    """
    train = np.flatnonzero(surveyed["split_draw"].to_numpy() >= limit)
    draws, sizes = surveyed["sample_draw"].to_numpy(), surveyed["bytes"].to_numpy()
    order = train[np.argsort(draws[train], kind="stable")]
    before = np.cumsum(sizes[order]) - sizes[order]
    return sorted(
        (
            Sampled(int(row), min(int(sizes[row]), budget - int(start)))
            for row, start in zip(order, before, strict=True)
            if start < budget and sizes[row] > 0
        ),
        key=lambda item: item.row,
    )
