"""The shingles of documents of several languages, each read as its language asks for."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import PartRef
from infra.dataset.ledger import KEPT
from tasks.dedup.config import DedupConfig, Shingling
from tasks.dedup.minhash.sketch import U64, Reader, Sketches


class Readers:
    """A reader per way of shingling, made when it is first needed."""

    def __init__(self, config: DedupConfig) -> None:
        """Nothing is read yet."""
        self._config = config
        self._made: dict[Shingling, Reader] = {}

    def sketch(self, texts: pa.ChunkedArray, languages: Sequence[str | None] | None) -> Sketches:
        """Sketch n texts.

        Args:
            texts: a column of n.
            languages: of each; ``None`` if no setting depends on them.
        """
        config = self._config
        ways = self._ways(len(texts), languages)
        if len(ways) == 1:
            (way,) = ways
            return self._reader(way).sketch(texts, config.seed, config.permutations)
        signatures = np.zeros((len(texts), config.permutations), np.uint32)
        digests = [b""] * len(texts)
        shingles = np.zeros(len(texts), np.int64)
        for way, rows in ways.items():
            part = self._reader(way).sketch(texts.take(rows), config.seed, config.permutations)
            signatures[rows], shingles[rows] = part.signatures, part.shingles
            for row, digest in zip(rows, part.digests, strict=True):
                digests[row] = digest
        return Sketches(signatures, digests, shingles)

    def shingle_sets(
        self, texts: pa.ChunkedArray, rows: Sequence[int], languages: Sequence[str | None] | None
    ) -> dict[int, U64]:
        """The set of shingle hashes of some rows: sorted, distinct, uint64."""
        out: dict[int, U64] = {}
        for way, places in self._ways(
            len(rows), None if languages is None else [languages[row] for row in rows]
        ).items():
            out |= self._reader(way).shingle_sets(texts, [rows[place] for place in places])
        return out

    def _ways(self, n: int, languages: Sequence[str | None] | None) -> dict[Shingling, list[int]]:
        """The rows to be read in each way."""
        if languages is None or not self._config.languages:
            return {self._config.shingling(None): list(range(n))}
        ways: dict[Shingling, list[int]] = {}
        for row, language in enumerate(languages):
            ways.setdefault(self._config.shingling(language), []).append(row)
        return ways or {self._config.shingling(None): []}

    def _reader(self, way: Shingling) -> Reader:
        if way not in self._made:
            self._made[way] = Reader(way.ngram, way.unit)
        return self._made[way]


def languages(documents: PartRef, notes: PartRef | None) -> list[str | None] | None:
    """The language of each document of a part; ``None`` for one that annotation failed on.

    Args:
        documents: the part.
        notes: its annotations, or nothing: then the result is nothing.
    """
    if notes is None:
        return None
    found: list[str | None] = notes.table(["language"])["language"].to_pylist()
    if notes.rows == documents.rows:
        return found
    out: list[str | None] = [None] * documents.rows
    kept = np.flatnonzero(pc.equal(notes.verdicts()["verdict"], KEPT).to_numpy())
    for row, language in zip(kept.tolist(), found, strict=True):
        out[row] = language
    return out
