"""Shingles of documents in several languages, each read with the settings of its language."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.arrays import U64
from infra.dataset.dataset import PartRef
from infra.dataset.ledger import KEPT
from infra.minhash.sketch import ShingleReader, Sketches
from tasks.dedup.config import DedupConfig, ShinglingConfig


class ShingleReaders:
    """One `ShingleReader` per shingling, created when it is first needed."""

    def __init__(self, config: DedupConfig) -> None:
        """Read shingles as the recipe's section says."""
        self._config = config
        self._readers: dict[ShinglingConfig, ShingleReader] = {}

    def sketch(self, texts: pa.ChunkedArray, languages: Sequence[str | None] | None) -> Sketches:
        """Sketch n texts; ``languages`` is ``None`` if no setting depends on them."""
        config = self._config
        rows_by_shingling = self._rows_by_shingling(len(texts), languages)
        if len(rows_by_shingling) == 1:
            (shingling,) = rows_by_shingling
            return self._get_reader(shingling).sketch(texts, config.seed, config.num_permutations)
        signatures = np.zeros((len(texts), config.num_permutations), np.uint32)
        digests = [b""] * len(texts)
        shingles = np.zeros(len(texts), np.int64)
        for shingling, rows in rows_by_shingling.items():
            part = self._get_reader(shingling).sketch(
                texts.take(rows), config.seed, config.num_permutations
            )
            signatures[rows], shingles[rows] = part.signatures, part.shingle_counts
            for row, digest in zip(rows, part.digests, strict=True):
                digests[row] = digest
        return Sketches(signatures, digests, shingles)

    def shingle_sets(
        self, texts: pa.ChunkedArray, rows: Sequence[int], languages: Sequence[str | None] | None
    ) -> dict[int, U64]:
        """Return the set of shingle hashes of some rows: sorted, distinct, uint64."""
        sets: dict[int, U64] = {}
        for shingling, indices in self._rows_by_shingling(
            len(rows), None if languages is None else [languages[row] for row in rows]
        ).items():
            sets |= self._get_reader(shingling).shingle_sets(texts, [rows[i] for i in indices])
        return sets

    def _rows_by_shingling(
        self, n: int, languages: Sequence[str | None] | None
    ) -> dict[ShinglingConfig, list[int]]:
        """Return the rows to be read with each shingling."""
        if languages is None or not self._config.languages:
            return {self._config.shingling(None): list(range(n))}
        rows: dict[ShinglingConfig, list[int]] = {}
        for row, language in enumerate(languages):
            rows.setdefault(self._config.shingling(language), []).append(row)
        return rows or {self._config.shingling(None): []}

    def _get_reader(self, shingling: ShinglingConfig) -> ShingleReader:
        if shingling not in self._readers:
            self._readers[shingling] = ShingleReader(shingling.ngram, shingling.shingle_unit)
        return self._readers[shingling]


def load_languages(documents: PartRef, annotations: PartRef | None) -> list[str | None] | None:
    """Return the language of each document of a part; ``None`` if its annotation failed."""
    if annotations is None:
        return None
    labels: list[str | None] = annotations.table(["language"])["language"].to_pylist()
    if annotations.num_rows == documents.num_rows:
        return labels
    out: list[str | None] = [None] * documents.num_rows
    kept = np.flatnonzero(pc.equal(annotations.verdicts()["verdict"], KEPT).to_numpy())
    for row, language in zip(kept.tolist(), labels, strict=True):
        out[row] = language
    return out
