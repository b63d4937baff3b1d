"""Learn the merges of a byte-pair encoding from word counts.

The algorithm is that of the trainer of ``tokenizers`` (Sennrich et al. 2016, with a priority queue of
pairs and, for each pair, the words that contain it), except that it takes word counts instead of
texts. The most frequent pair is merged first; ties go to the pair with the lowest ids. The merges
equal those of ``tokenizers``, which counts in 32 bits; counts n_words have 64.

Memory: 4 bytes per symbol of the words, and 4 bytes per (pair, word that contains it) when the pair
first occurs: about 100 bytes for a word of eight letters.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets
from tasks.tokenize.word_table import grow_array

Symbols = npt.NDArray[np.int32]
Entries = npt.NDArray[np.int64]  # two axes

PAIRS, RECORDS, POOL, ENTRIES, HEAP = range(5)  # indices into the state: the number of each
COUNT, PAIR_KEY, PAIR, START, SIZE = range(5)  # columns of the queue's entries
NONE = -1
KEY_BASE = (
    np.int64(1) << 32
)  # pair (a, b) as one integer that sorts as the pairs do: a * KEY_BASE + b


@jit
def _hash_key(value: int) -> int:
    mixed = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)
    return int((mixed ^ (mixed >> np.uint64(29))) & np.uint64(0x7FFFFFFFFFFFFFFF))


@jit
def _find(slots: Symbols, keys: Offsets, key: int) -> int:
    """Return the slot that holds a pair's index, or the empty slot where it belongs."""
    mask = len(slots) - 1
    slot = _hash_key(key) & mask
    while slots[slot] != NONE and keys[slots[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@jit
def _rehash(slots: Symbols, keys: Offsets, pairs: int) -> None:
    for pair in range(pairs):
        slots[_find(slots, keys, keys[pair])] = pair


@jit
def _update_count(
    key: int, delta: int, word: int, state: Offsets, slots: Symbols, keys: Offsets,
    counts: Offsets, last_word: Symbols, n_words: Symbols, rec_pairs: Symbols, rec_words: Symbols,
) -> None:  # fmt: skip
    """Add ``delta`` to a pair's count; if positive, record that the word contains the pair."""
    slot = _find(slots, keys, key)
    if slots[slot] == NONE:
        slots[slot] = state[PAIRS]
        keys[state[PAIRS]] = key
        state[PAIRS] += 1
    pair = slots[slot]
    counts[pair] += delta
    if delta > 0 and last_word[pair] != word:
        last_word[pair] = word
        n_words[pair] += 1
        rec_pairs[state[RECORDS]], rec_words[state[RECORDS]] = pair, word
        state[RECORDS] += 1


@jit
def _count(
    symbols: Symbols, starts: Offsets, sizes: Symbols, weights: Offsets, state: Offsets,
    slots: Symbols, keys: Offsets, counts: Offsets, last_word: Symbols, n_words: Symbols,
    rec_pairs: Symbols, rec_words: Symbols,
) -> None:  # fmt: skip
    """Count the pairs of all words."""
    for word in range(len(sizes)):
        for i in range(starts[word], starts[word] + sizes[word] - 1):
            key = symbols[i] * KEY_BASE + symbols[i + 1]
            _update_count(
                key,
                weights[word],
                word,
                state,
                slots,
                keys,
                counts,
                last_word,
                n_words,
                rec_pairs,
                rec_words,
            )


@jit
def _occurrences(
    symbols: Symbols, starts: Offsets, sizes: Symbols, words: Symbols, first: int, second: int
) -> int:
    count = 0
    for word in words:
        for i in range(starts[word], starts[word] + sizes[word] - 1):
            count += symbols[i] == first and symbols[i + 1] == second
    return count


@jit
def _merge(
    symbols: Symbols, starts: Offsets, sizes: Symbols, weights: Offsets, words: Symbols,
    first: int, second: int, merged: int, state: Offsets,
    slots: Symbols, keys: Offsets, counts: Offsets, last_word: Symbols, n_words: Symbols,
    rec_pairs: Symbols, rec_words: Symbols,
) -> None:  # fmt: skip
    """Merge a pair in the given words, from left to right, and update the counts of its neighbors."""
    for word in words:
        start, stop, weight = starts[word], starts[word] + sizes[word], weights[word]
        i = to = start
        while i < stop:
            if i + 1 < stop and symbols[i] == first and symbols[i + 1] == second:
                if to > start:
                    before = symbols[to - 1] * KEY_BASE
                    _update_count(
                        before + first, -weight, word, state, slots, keys, counts, last_word, n_words,
                        rec_pairs, rec_words,
                    )  # fmt: skip
                    _update_count(
                        before + merged, weight, word, state, slots, keys, counts, last_word, n_words,
                        rec_pairs, rec_words,
                    )  # fmt: skip
                i += 2
                if i < stop:
                    after = symbols[i]
                    _update_count(
                        second * KEY_BASE + after, -weight, word, state, slots, keys, counts, last_word,
                        n_words, rec_pairs, rec_words,
                    )  # fmt: skip
                    _update_count(
                        merged * KEY_BASE + after, weight, word, state, slots, keys, counts, last_word,
                        n_words, rec_pairs, rec_words,
                    )  # fmt: skip
                symbols[to] = merged
            else:
                symbols[to] = symbols[i]
                i += 1
            to += 1
        sizes[word] = to - start


@jit
def _comes_before(one: int, other: int, entries: Entries) -> bool:
    """Return whether a queue entry comes before another: higher count, then lower ids."""
    if entries[one, COUNT] != entries[other, COUNT]:
        return bool(entries[one, COUNT] > entries[other, COUNT])
    return bool(entries[one, PAIR_KEY] < entries[other, PAIR_KEY])


@jit
def _sift_up(heap: Offsets, size: int, entry: int, entries: Entries) -> None:
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not _comes_before(entry, heap[parent], entries):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = entry


@jit
def _sift_down(heap: Offsets, size: int, entry: int, entries: Entries) -> None:
    """Replace the first entry of the heap by another one."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _comes_before(heap[child + 1], heap[child], entries):
            child += 1
        if not _comes_before(heap[child], entry, entries):
            break
        heap[at] = heap[child]
        at = child
    if size > 0:
        heap[at] = entry


@jit
def _queue(
    state: Offsets, keys: Offsets, counts: Offsets, last_word: Symbols, n_words: Symbols,
    rec_pairs: Symbols, rec_words: Symbols, pool_index: Offsets, pool: Symbols, heap: Offsets, entries: Entries,
) -> None:  # fmt: skip
    """Put every newly recorded pair into the queue, with the words that contain it."""
    for i in range(state[RECORDS]):
        pair = rec_pairs[i]
        if pool_index[pair] == NONE:
            pool_index[pair] = state[POOL]
            if counts[pair] > 0:
                entry = state[ENTRIES]
                entries[entry, COUNT], entries[entry, PAIR] = counts[pair], pair
                entries[entry, PAIR_KEY] = keys[pair]
                entries[entry, START], entries[entry, SIZE] = state[POOL], n_words[pair]
                _sift_up(heap, state[HEAP], entry, entries)
                state[ENTRIES] += 1
                state[HEAP] += 1
            state[POOL] += n_words[pair]
        pool[pool_index[pair]] = rec_words[i]
        pool_index[pair] += 1
    for i in range(state[RECORDS]):
        pool_index[rec_pairs[i]], last_word[rec_pairs[i]], n_words[rec_pairs[i]] = NONE, NONE, 0
    state[RECORDS] = 0


@jit
def _pop(state: Offsets, counts: Offsets, heap: Offsets, entries: Entries) -> int:
    """Remove and return the first entry whose count is up to date; ``NONE`` if the queue is empty."""
    while state[HEAP] > 0:
        entry = heap[0]
        current = counts[entries[entry, PAIR]]
        if entries[entry, COUNT] == current:
            state[HEAP] -= 1
            _sift_down(heap, state[HEAP], heap[state[HEAP]], entries)
            return int(entry)
        entries[entry, COUNT] = current
        _sift_down(heap, state[HEAP], entry, entries)
    return NONE


class _MergeTrainer:
    """The words as symbols, their pairs, and the queue of pairs."""

    def __init__(self, bounds: Offsets, data: Bytes, counts: Offsets, ids: Symbols) -> None:
        self.symbols = ids[data[bounds[0] : bounds[-1]]]
        self.starts, self.weights = bounds - bounds[0], counts
        self.sizes = np.diff(bounds).astype(np.int32)
        self.state = np.zeros(5, np.int64)
        self.slots = np.full(1 << 17, NONE, np.int32)
        self.keys, self.counts = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
        self.last_word, self.n_words = np.full(1 << 16, NONE, np.int32), np.zeros(1 << 16, np.int32)
        self.pool_index = np.full(1 << 16, NONE, np.int64)
        self.rec_pairs, self.rec_words = np.zeros(0, np.int32), np.zeros(0, np.int32)
        self.pool = np.zeros(0, np.int32)
        self.heap, self.entries = np.zeros(0, np.int64), np.zeros((0, 5), np.int64)
        self._ensure_capacity(1 << 16, len(self.symbols))  # pairs of bytes
        _count(*(*self._words(), self.state, *self._pairs()))
        self._queue()

    def _words(self) -> Any:
        return self.symbols, self.starts, self.sizes, self.weights

    def _pairs(self) -> Any:
        return (
            self.slots, self.keys, self.counts, self.last_word, self.n_words,
            self.rec_pairs, self.rec_words,
        )  # fmt: skip

    def _ensure_capacity(self, pairs: int, records: int) -> None:
        """Grow the arrays for this many new pairs and (pair, word) records."""
        pairs += int(self.state[PAIRS])
        if pairs > len(self.keys):
            for name, fill in (("keys", 0), ("counts", 0), ("last_word", NONE), ("n_words", 0)):
                setattr(self, name, grow_array(getattr(self, name), pairs, fill))
            self.pool_index = grow_array(self.pool_index, pairs, NONE)
            size = 1 << (2 * len(self.keys)).bit_length()
            self.slots = np.full(size, NONE, np.int32)
            _rehash(self.slots, self.keys, int(self.state[PAIRS]))
        self.rec_pairs, self.rec_words = (
            grow_array(self.rec_pairs, records),
            grow_array(self.rec_words, records),
        )

    def _queue(self) -> None:
        records = int(self.state[RECORDS])
        self.pool = grow_array(self.pool, int(self.state[POOL]) + records)
        self.entries = grow_array(self.entries, int(self.state[ENTRIES]) + records)
        self.heap = grow_array(self.heap, int(self.state[HEAP]) + records)
        _queue(
            self.state, self.keys, self.counts, self.last_word, self.n_words,
            self.rec_pairs, self.rec_words, self.pool_index, self.pool, self.heap, self.entries,
        )  # fmt: skip

    def pop_best(self) -> tuple[int, int, int, Symbols] | None:
        """Remove the best pair: ``(first, second, count, words that contain it)``, or ``None``."""
        entry = _pop(self.state, self.counts, self.heap, self.entries)
        if entry == NONE:
            return None
        count, key, _, start, size = self.entries[entry].tolist()
        return key // KEY_BASE, key % KEY_BASE, count, self.pool[start : start + size]

    def merge(self, first: int, second: int, merged: int, words: Symbols) -> None:
        """Merge a pair in the words that contain it."""
        count = _occurrences(self.symbols, self.starts, self.sizes, words, first, second)
        self._ensure_capacity(min(4 * count, 4 * merged + 4), 2 * count)
        _merge(*(*self._words(), words, first, second, merged, self.state, *self._pairs()))
        self._queue()


def train_merges(
    words: tuple[Offsets, Bytes],
    counts: Offsets,
    initial_tokens: Sequence[bytes],
    *,
    vocab_size: int,
    min_frequency: int,
) -> tuple[list[bytes], list[tuple[int, int]]]:
    """Learn merges from words and their counts.

    Args:
        words: int64[n + 1] offsets and uint8[...]; word i is ``data[offsets[i]:offsets[i + 1]]``.
        counts: int64[n], how often each word occurs.
        initial_tokens: the first tokens by id, every single byte among them.
        vocab_size: maximum number of ids.
        min_frequency: a pair that occurs less often is not merged.

    Returns:
        ``(tokens by id, merged pairs of ids in order)``.
    """
    tokens = list(initial_tokens)
    ids = {token: number for number, token in reversed(list(enumerate(tokens)))}
    trainer = _MergeTrainer(
        *words, counts, np.array([ids[bytes([b])] for b in range(256)], np.int32)
    )
    merges: dict[tuple[int, int], None] = {}
    while len(tokens) < vocab_size:
        best = trainer.pop_best()
        if best is None or best[2] < max(min_frequency, 1):
            break
        first, second, _, words_with_pair = best
        token = tokens[first] + tokens[second]
        # Two merges may spell the same token: the second then gets the id of the first.
        merged = ids.setdefault(token, len(tokens))
        if merged == len(tokens):
            tokens.append(token)
        merges.pop((first, second), None)
        merges[first, second] = None
        trainer.merge(first, second, merged, words_with_pair)
    return tokens, list(merges)
