"""The shingles of documents of several languages, each read as its language asks for."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import PartRef
from infra.dataset.ledger import KEPT
from tasks.dedup.config import DedupConfig, ShinglingConfig
from tasks.dedup.minhash.sketch import U64, ShingleReader, Sketches


class ShingleReaders:
    """A reader per way of shingling, made when it is first needed."""

    def __init__(self, config: DedupConfig) -> None:
        """Nothing is read yet."""
        self._config = config
        self._readers: dict[ShinglingConfig, ShingleReader] = {}

    def sketch(self, texts: pa.ChunkedArray, languages: Sequence[str | None] | None) -> Sketches:
        """Sketch n texts.

        Args:
            texts: a column of n.
            languages: of each; ``None`` if no setting depends on them.
        """
        config = self._config
        ways = self._rows_by_shingling(len(texts), languages)
        if len(ways) == 1:
            (way,) = ways
            return self._get_reader(way).sketch(texts, config.seed, config.num_permutations)
        signatures = np.zeros((len(texts), config.num_permutations), np.uint32)
        digests = [b""] * len(texts)
        shingles = np.zeros(len(texts), np.int64)
        for way, rows in ways.items():
            part = self._get_reader(way).sketch(
                texts.take(rows), config.seed, config.num_permutations
            )
            signatures[rows], shingles[rows] = part.signatures, part.shingle_counts
            for row, digest in zip(rows, part.digests, strict=True):
                digests[row] = digest
        return Sketches(signatures, digests, shingles)

    def shingle_sets(
        self, texts: pa.ChunkedArray, rows: Sequence[int], languages: Sequence[str | None] | None
    ) -> dict[int, U64]:
        """The set of shingle hashes of some rows: sorted, distinct, uint64."""
        out: dict[int, U64] = {}
        for way, places in self._rows_by_shingling(
            len(rows), None if languages is None else [languages[row] for row in rows]
        ).items():
            out |= self._get_reader(way).shingle_sets(texts, [rows[place] for place in places])
        return out

    def _rows_by_shingling(
        self, n: int, languages: Sequence[str | None] | None
    ) -> dict[ShinglingConfig, list[int]]:
        """The rows to be read in each way."""
        if languages is None or not self._config.languages:
            return {self._config.shingling(None): list(range(n))}
        ways: dict[ShinglingConfig, list[int]] = {}
        for row, language in enumerate(languages):
            ways.setdefault(self._config.shingling(language), []).append(row)
        return ways or {self._config.shingling(None): []}

    def _get_reader(self, shingling: ShinglingConfig) -> ShingleReader:
        if shingling not in self._readers:
            self._readers[shingling] = ShingleReader(shingling.ngram, shingling.shingle_unit)
        return self._readers[shingling]


def load_languages(documents: PartRef, annotations: PartRef | None) -> list[str | None] | None:
    """The language of each document of a part; ``None`` for one that annotation failed on.

    Args:
        documents: the part.
        annotations: its annotations, or nothing: then the result is nothing.
    """
    if annotations is None:
        return None
    found: list[str | None] = annotations.table(["language"])["language"].to_pylist()
    if annotations.num_rows == documents.num_rows:
        return found
    out: list[str | None] = [None] * documents.num_rows
    kept = np.flatnonzero(pc.equal(annotations.verdicts()["verdict"], KEPT).to_numpy())
    for row, language in zip(kept.tolist(), found, strict=True):
        out[row] = language
    return out
