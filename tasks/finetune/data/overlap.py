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
BATCH_TEXTS = 1000  # whose n-grams are in memory at a time


class OverlapIndex:
    """The n-grams of n examples, to be looked for in a corpus.

    Attributes:
        hashes: uint64[k], sorted and distinct.
        has_ngrams: bool[n]; a shorter example cannot be checked.
    """

    def __init__(self, texts: Sequence[str], ngram: int = NGRAM_WORDS) -> None:
        """Read the n-grams of the examples' texts."""
        reader = ShingleReader(ngram)
        sets = reader.shingle_sets(pa.array(list(texts), pa.string()), range(len(texts)))
        self._owners = np.repeat(np.arange(len(texts)), [len(sets[i]) for i in range(len(texts))])
        hashes = np.concatenate([np.zeros(0, np.uint64), *(sets[i] for i in range(len(texts)))])
        self.hashes, self._inverse = np.unique(hashes, return_inverse=True)
        self.has_ngrams: Bools = np.array([len(sets[i]) > 0 for i in range(len(texts))], np.bool_)

    def hits(self, occurring: U64) -> Bools:
        """Return for each example whether one of its n-grams is among those, bool[n]."""
        hit = np.zeros(len(self.has_ngrams), np.bool_)
        found = np.isin(self.hashes, occurring)[self._inverse]
        hit[self._owners[found]] = True
        return hit


def find_ngrams(
    wanted: U64, texts: "pa.Array[Any] | pa.ChunkedArray[Any]", ngram: int = NGRAM_WORDS
) -> U64:
    """Return those of some hashes of n-grams that occur in texts: sorted and distinct, as they are."""
    occurring = np.zeros(len(wanted), np.bool_)
    for start in range(0, len(texts), BATCH_TEXTS):
        batch = texts.slice(start, BATCH_TEXTS)
        sets = ShingleReader(ngram).shingle_sets(batch, range(len(batch)))
        hashes = np.concatenate([np.zeros(0, np.uint64), *sets.values()])
        places = np.searchsorted(wanted, hashes)
        inside = places < len(wanted)
        places, hashes = places[inside], hashes[inside]
        occurring[places[wanted[places] == hashes]] = True
    return wanted[occurring]
