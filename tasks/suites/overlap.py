"""Find the words of items in training text: runs of 13 words, as GPT-3 was checked (Brown et al. 2020, appendix C).

Texts are compared as words in lower case without punctuation, because copies of a benchmark differ in spaces, case and
quotation marks. Items are few and training text is much, so n-grams of the items are hashed, and the text is read once.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int64]  # ids of words; 0: a word of no item
Hashes = npt.NDArray[np.uint64]

NGRAM = 13
# A shorter item is a phrase that anybody writes: it is not looked for.
MIN_WORDS = 5
# An n-gram of more documents of a suite is part of how its items are worded, and says nothing of one item.
MAX_CLUSTERS = 10
# Scripts without spaces between words: every character counts as one.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)
_BASE = 0x9E3779B97F4A7C15  # odd, so that no power of it is lost modulo 2^64
_POWERS = [np.uint64(pow(_BASE, step, 1 << 64)) for step in range(NGRAM)]


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return _WORD.findall(text.casefold())


def ngram_size(num_words: int) -> int:
    """Return the length of the runs that are looked for of an item: 13, or all of its words."""
    return min(NGRAM, num_words)


@dataclass(frozen=True)
class Run:
    """Words of an item that stand in one piece in a document.

    Attributes:
        item: number of the item.
        start: its first word in the item.
        words: number of words.
        position: its first word in the text that was searched.
    """

    item: int
    start: int
    words: int
    position: int


class ItemNgrams:
    """The n-grams of all items, to look for in text."""

    def __init__(self, texts: Sequence[str], clusters: Sequence[str]) -> None:
        """Hash the n-grams of items.

        Args:
            texts: what is looked for of each item.
            clusters: suite and cluster of each.
        """
        words = [split_words(text) for text in texts]
        self._vocabulary: dict[str, int] = {}
        for item in words:
            for word in item:
                self._vocabulary.setdefault(word, len(self._vocabulary) + 1)
        self._sizes = np.array([len(item) for item in words], np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        flat = [self._vocabulary[word] for item in words for word in item]
        self._words = np.array(flat, np.int64)
        self._owner = np.repeat(np.arange(len(words)), self._sizes)
        _, self._clusters = np.unique(np.asarray(clusters, str), return_inverse=True)
        self._by_size = {
            size: self._hash_items(size)
            for size in sorted({ngram_size(len(item)) for item in words if len(item) >= MIN_WORDS})
        }

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's words."""
        return [self._vocabulary.get(word, 0) for word in split_words(text)]

    def _hash_items(self, size: int) -> tuple[Hashes, Words]:
        """Return the hashes of the n-grams of the items of this size, sorted, and where they begin."""
        firsts = [
            np.arange(start, start + length - size + 1)
            for start, length in zip(self._starts.tolist(), self._sizes.tolist(), strict=True)
            if length >= MIN_WORDS and ngram_size(length) == size
        ]
        at = np.concatenate(firsts)
        hashes = _hash_ngrams(self._words, size)[at]
        # Those of many clusters are left out.
        pairs = np.unique(
            np.stack([hashes, self._clusters[self._owner[at]].astype(np.uint64)]), axis=1
        )
        values, counts = np.unique(pairs[0], return_counts=True)
        rare = values[counts <= MAX_CLUSTERS]
        kept = np.isin(hashes, rare)
        hashes, at = hashes[kept], at[kept]
        order = np.argsort(hashes, kind="stable")
        return hashes[order], at[order]

    def find(self, text: Words) -> list[Run]:
        """Return the runs of items' words in a text, of ids of words; documents are separated by a 0.

        A run cannot be made longer. Runs of one item follow each other, by their place in the text.
        """
        runs: list[Run] = []
        hashes = np.zeros(len(text), np.uint64)
        for size in range(1, min(NGRAM, len(text)) + 1):
            shifted = np.zeros(len(text), np.uint64)
            shifted[: len(text) - size + 1] = text[size - 1 :].astype(np.uint64)
            hashes += shifted * _POWERS[size - 1]
            if size in self._by_size:
                runs += self._find_size(text, hashes[: len(text) - size + 1], size)
        runs.sort(key=lambda run: (run.item, run.position, run.start))
        return runs

    def _find_size(self, text: Words, hashes: Hashes, size: int) -> list[Run]:
        known, at = self._by_size[size]
        if not len(known):
            return []
        first = np.searchsorted(known, hashes, side="left")
        hit = np.flatnonzero(known[np.minimum(first, len(known) - 1)] == hashes)
        counts = np.searchsorted(known, hashes[hit], side="right") - first[hit]
        position = np.repeat(hit, counts)
        offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        word = at[np.repeat(first[hit], counts) + offset]
        for step in range(size):  # equal hashes are not equal words
            same = text[position + step] == self._words[word + step]
            position, word = position[same], word[same]
        return self._join(position, word, size)

    def _join(self, position: Words, word: Words, size: int) -> list[Run]:
        """Join n-grams that begin one word after the other, in the text and in an item."""
        if not len(word):
            return []
        item = self._owner[word]
        order = np.lexsort((position, position - word, item))
        position, word, item = position[order], word[order], item[order]
        is_next = (np.diff(position) == 1) & (np.diff(word) == 1) & (np.diff(item) == 0)
        bounds = np.flatnonzero(np.concatenate([[True], ~is_next, [True]]))
        return [
            Run(
                int(item[start]),
                int(word[start] - self._starts[item[start]]),
                int(stop - start - 1 + size),
                int(position[start]),
            )
            for start, stop in itertools.pairwise(bounds)
        ]


def _hash_ngrams(words: Words, size: int) -> Hashes:
    """Return a hash of the n-gram that begins at each word; the last ones are of what is left."""
    hashes = np.zeros(len(words), np.uint64)
    for step in range(size):
        shifted = np.zeros(len(words), np.uint64)
        shifted[: len(words) - step] = words[step:].astype(np.uint64)
        hashes += shifted * _POWERS[step]
    return hashes
