"""Hashes of words and of sequences of words: the definition, and the data set `fingerprints`.

* *word*: a run of letters, digits, combining marks and ``_`` in simple lower case; each Han or kana
  character is a word.
* *gram*: n consecutive words; its hash is a polynomial in the words' hashes modulo 2**64 (a rolling
  hash; Karp and Rabin 1987), then mixed.
* *fingerprint*: of every w consecutive grams the one with the smallest hash, of equal ones the last
  (winnowing; Schleimer, Wilkerson and Aiken, SIGMOD 2003). Texts that share w + n - 1 consecutive
  words share a fingerprint in them. A document's fingerprints take about 8 bytes per 13 words.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import I32, I64, U8, U64
from infra.compute.jit import jit
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.mixers import fmix64
from infra.dataset.stage import Context, Stage
from infra.formats.arrow_text import utf8_buffers
from infra.formats.unicode_tables import CJK, WORD, char_tables, decode_utf8
from tasks.select.repeated_text.config import SubstringDedupConfig
from tasks.select.repeated_text.hash_datasets import SEED, build_hashes, update_hash

STAGE = Stage(
    "fingerprints", modules=("tasks.select.repeated_text.word_hashes",), libraries=("pyarrow",)
)
_BASE = np.uint64(0x9E3779B97F4A7C15)


@jit
def _hash_words(
    data: U8, i: int, end: int, classes: U8, lower: I32, hashes: U64, starts: I64, ends: I64
) -> int:
    """Find the words of ``data[i:end]``: their hashes, and their starts and ends in characters.

    ``starts`` and ``ends`` may be empty arrays; then they are not written. Returns the number of words.
    """
    with_offsets = len(starts) > 0
    n = 0
    at = 0
    inside = False
    value = SEED
    while i < end:
        byte = data[i]
        if byte < 0x80:
            point = int(np.int64(byte))
            i += 1
        else:
            point, i = decode_utf8(data, i)
        kind = classes[point]
        if kind & WORD:
            alone = (kind & CJK) != 0
            if inside and alone:
                hashes[n] = fmix64(value)
                if with_offsets:
                    ends[n] = at
                n += 1
                inside = False
            if not inside:
                value = SEED
                if with_offsets:
                    starts[n] = at
            value = update_hash(value, lower[point])
            inside = True
            if alone:
                hashes[n] = fmix64(value)
                if with_offsets:
                    ends[n] = at + 1
                n += 1
                inside = False
        elif inside:
            hashes[n] = fmix64(value)
            if with_offsets:
                ends[n] = at
            n += 1
            inside = False
        at += 1
    if inside:
        hashes[n] = fmix64(value)
        if with_offsets:
            ends[n] = at
        n += 1
    return n


@jit
def _hash_grams(words: U64, n: int, size: int, out: U64) -> int:
    """Hash all grams of ``size`` words among the first ``n`` words; return their number."""
    if n < size:
        return 0
    lead = np.uint64(1)
    value = np.uint64(0)
    for k in range(size):
        value = value * _BASE + words[k]
        if k:
            lead *= _BASE
    out[0] = fmix64(value)
    for k in range(size, n):
        value = (value - words[k - size] * lead) * _BASE + words[k]
        out[k - size + 1] = fmix64(value)
    return n - size + 1


@jit
def _winnow(grams: U64, n: int, window: int, out: I64) -> int:
    """Write the ascending indices of the fingerprints among the first ``n`` grams; return their number."""
    count = 0
    best = -1
    for last in range(window - 1, n):
        first = last - window + 1
        if best < first:
            best = first
            for k in range(first + 1, last + 1):
                if grams[k] <= grams[best]:
                    best = k
        elif grams[last] <= grams[best]:
            best = last
        else:
            continue
        out[count] = best
        count += 1
    return count


@jit
def _fingerprint_texts(
    offsets: I64, data: U8, classes: U8, lower: I32, size: int, window: int
) -> tuple[I64, U64]:
    """Return the distinct fingerprints of each text, ascending: bounds by text, and the fingerprints."""
    rows = len(offsets) - 1
    longest = 0
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    max_words = longest // 2 + 2  # a word takes at least a letter and a separator, or 3 bytes
    words = np.empty(max_words, np.uint64)
    grams = np.empty(max_words, np.uint64)
    indices = np.empty(max_words, np.int64)
    none = np.empty(0, np.int64)
    out = np.empty(1024, np.uint64)
    bounds = np.zeros(rows + 1, np.int64)
    n = 0
    for row in range(rows):
        count = _hash_words(data, offsets[row], offsets[row + 1], classes, lower, words, none, none)
        count = _hash_grams(words, count, size, grams)
        count = _winnow(grams, count, window, indices)
        if n + count > len(out):
            larger = np.empty(2 * (n + count), np.uint64)
            larger[:n] = out[:n]
            out = larger
        ordered = np.sort(grams[indices[:count]])
        for k in range(count):
            if k == 0 or ordered[k] != ordered[k - 1]:
                out[n] = ordered[k]
                n += 1
        bounds[row + 1] = n
    return bounds, out[:n].copy()


@jit
def _count_words(data: U8, classes: U8) -> int:
    n = 0
    i = 0
    inside = False
    while i < len(data):
        point, i = decode_utf8(data, i)
        kind = classes[point]
        alone = (kind & CJK) != 0
        word = (kind & WORD) != 0
        n += word and (alone or not inside)
        inside = word and not alone
    return n


def count_words(text: str) -> int:
    """Return the number of words of a text."""
    return int(_count_words(np.frombuffer(text.encode(), np.uint8), char_tables()[0]))


def winnowing_params(run_words: int) -> tuple[int, int]:
    """Return words per gram and grams per window that find every common run of ``run_words`` words."""
    gram = run_words // 2
    return gram, run_words - gram + 1


def compute_fingerprints(
    texts: "pa.Array[Any] | pa.ChunkedArray[Any]", run_words: int
) -> "pa.Array[Any]":
    """Return the distinct fingerprints of each text: a list of uint64 per row, ascending.

    Two texts that share ``run_words`` consecutive words share one of them.
    """
    offsets, data = utf8_buffers(texts)
    bounds, hashes = _fingerprint_texts(offsets, data, *char_tables(), *winnowing_params(run_words))
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(hashes))


def build_fingerprints(
    ctx: Context, config: SubstringDedupConfig, documents: Sequence[Dataset]
) -> list[PartRef]:
    """Build the fingerprints of all parts, row-aligned with the documents, in the order of the sources."""
    run_words = config.min_run_words
    settings = {"min_run_words": run_words}
    return build_hashes(ctx, STAGE, settings, compute_fingerprints, run_words, documents)


class WordRuns:
    """The runs of ``run_words`` words of one text.

    Attributes:
        starts, ends: int64[n], start and end of each word in characters.
        hashes: uint64[n - run_words + 1], hash of the run that starts at each word.
    """

    def __init__(self, data: U8, run_words: int) -> None:
        """Read a text, given in UTF-8."""
        self._run_words = run_words
        max_words = len(data) // 2 + 2
        hashes = np.empty(max_words, np.uint64)
        starts, ends = np.empty(max_words, np.int64), np.empty(max_words, np.int64)
        n = _hash_words(data, 0, len(data), *char_tables(), hashes, starts, ends)
        self.starts, self.ends = starts[:n], ends[:n]
        self._word_hashes = hashes[:n]
        self.hashes = self._gram_hashes(run_words)

    def runs_containing(self, shared: U64) -> U64:
        """Return the distinct hashes of the runs that contain one of these fingerprints."""
        size, window = winnowing_params(self._run_words)
        grams = self._gram_hashes(size)
        indices = np.empty(len(grams), np.int64)
        indices = indices[: _winnow(grams, len(grams), window, indices)]
        indices = indices[np.isin(grams[indices], shared)]
        step = np.zeros(len(self.hashes) + 1, np.int64)
        np.add.at(step, np.maximum(indices - (self._run_words - size), 0), 1)
        np.add.at(step, np.minimum(indices + 1, len(self.hashes)), -1)
        return np.unique(self.hashes[np.cumsum(step)[:-1] > 0])

    def _gram_hashes(self, size: int) -> U64:
        out = np.empty(max(0, len(self._word_hashes) - size + 1), np.uint64)
        _hash_grams(self._word_hashes, len(self._word_hashes), size, out)
        return out
