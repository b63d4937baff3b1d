"""Overlap of examples with the corpus that a base model was trained on, by 13-grams of words.

An example whose text shares 13 consecutive words with the corpus was probably read in pre-training
(Brown et al. 2020, appendix C). Words are those of ``infra.minhash.shingles``: without punctuation and case.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import Bools, U64
from infra.minhash.sketch import ShingleReader

NGRAM_WORDS = 13


class OverlapIndex:
    """The n-grams of n examples, to be looked for in a corpus.

    Attributes:
        has_ngrams: bool[n]; a shorter example cannot be checked.
    """

    def __init__(self, texts: Sequence[str], ngram: int = NGRAM_WORDS) -> None:
        """Read the n-grams of the examples' texts."""
        self._reader = ShingleReader(ngram)
        sets = self._reader.shingle_sets(pa.array(list(texts), pa.string()), range(len(texts)))
        self._owners = np.repeat(np.arange(len(texts)), [len(sets[i]) for i in range(len(texts))])
        hashes = np.concatenate([np.zeros(0, np.uint64), *(sets[i] for i in range(len(texts)))])
        self._hashes, self._inverse = np.unique(hashes, return_inverse=True)
        self.has_ngrams: Bools = np.array([len(sets[i]) > 0 for i in range(len(texts))], np.bool_)

    def find_in(self, texts: "pa.Array[Any] | pa.ChunkedArray[Any]") -> U64:
        """Return those hashes of the examples' n-grams that occur in some texts: sorted, distinct."""
        sets = self._reader.shingle_sets(texts, range(len(texts)))
        occurring = np.zeros(len(self._hashes), np.bool_)
        for hashes in sets.values():
            occurring |= np.isin(self._hashes, hashes, assume_unique=True)
        return self._hashes[occurring]

    def hits(self, occurring: U64) -> Bools:
        """Return for each example whether one of its n-grams is among those, bool[n]."""
        hit = np.zeros(len(self.has_ngrams), np.bool_)
        found = np.isin(self._hashes, occurring)[self._inverse]
        hit[self._owners[found]] = True
        return hit
