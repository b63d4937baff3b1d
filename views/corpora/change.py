"""What changed from one corpus to another: documents that are new, and that are gone."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from infra.dataset.dataset import Dataset, PartRef

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class CorpusChange:
    """The difference of a corpus to an earlier one.

    Attributes:
        documents: in the corpus.
        bytes: of its text.
        new_documents: not in the earlier one; all without an earlier one.
        removed_documents: of the earlier one, not in this one.
    """

    documents: int
    bytes: int
    new_documents: int
    removed_documents: int

    @property
    def new_fraction(self) -> float:
        """Fraction of the corpus's documents that are new."""
        return self.new_documents / self.documents if self.documents else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "new_fraction": round(self.new_fraction, 4)}


def compare_corpora(before: Dataset | None, after: Dataset) -> CorpusChange:
    """Compare the ids of two corpora; parts that both have are not read.

    Ids are compared by 64-bit hashes, 8 bytes per document of the parts that differ.
    """
    old = {part.content: part for part in before.parts} if before is not None else {}
    new = {part.content: part for part in after.parts}
    gone = _hash_ids([part for content, part in old.items() if content not in new])
    come = _hash_ids([part for content, part in new.items() if content not in old])
    return CorpusChange(
        documents=after.counts.kept,
        bytes=sum(part.record.text_bytes for part in after.parts),
        new_documents=len(np.setdiff1d(come, gone)),
        removed_documents=len(np.setdiff1d(gone, come)),
    )


def _hash_ids(parts: Sequence[PartRef]) -> Hashes:
    def hashes() -> Iterator[Hashes]:
        for part in parts:
            ids = part.table(["id"])["id"].to_pylist()
            digests = (xxhash.xxh3_64_intdigest(item.encode()) for item in ids)
            yield np.fromiter(digests, np.uint64, len(ids))

    return np.concatenate([np.empty(0, np.uint64), *hashes()])
