"""Learn the merges of a byte-pair encoding from word counts.

The algorithm is that of the trainer of ``tokenizers`` (Sennrich et al. 2016, with a priority queue of
pairs and, for each pair, the words that contain it), except that it takes word counts instead of
texts. The most frequent pair is merged first; ties go to the pair with the lowest ids. The merges
equal those of ``tokenizers``, which counts in 32 bits; counts here have 64.

Memory: 4 bytes per symbol of the words, and 4 bytes per (pair, word that contains it) when the pair
first occurs: about 100 bytes for a word of eight letters.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from infra.compute.arrays import I32, I64
from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets
from tasks.tokenize.word_table import grow_array

PAIRS, RECORDS, POOL, ENTRIES, HEAP = range(5)  # indices into ``n``: how many of each there are
COUNT, PAIR_KEY, PAIR, START, SIZE = range(5)  # columns of the queue's entries
NONE = -1
# Pair (a, b) as one integer that sorts as the pairs do: a * KEY_BASE + b.
KEY_BASE = np.int64(1) << 32


class Words(NamedTuple):
    """The distinct words as symbols: word w is ``symbols[starts[w] : starts[w] + sizes[w]]``."""

    symbols: I32
    starts: Offsets
    sizes: I32
    weights: Offsets  # how often each word occurs


class Pairs(NamedTuple):
    """The pairs of adjacent symbols, numbered by first occurrence, and the new (pair, word) records."""

    n: I64
    slots: I32  # hash table of pair numbers
    keys: I64  # by pair, from here on
    counts: I64
    last_word: I32  # the last word that was recorded
    n_words: I32  # words recorded
    rec_pairs: I32
    rec_words: I32


class Queue(NamedTuple):
    """The priority queue of pairs: a heap of entries, and a pool of the words that contain each."""

    n: I64
    pool_index: I64  # by pair: where its next word goes
    pool: I32
    heap: I64
    entries: I64  # [entries, 5]


@jit
def _hash_key(value: int) -> int:
    mixed = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)
    return int((mixed ^ (mixed >> np.uint64(29))) & np.uint64(0x7FFFFFFFFFFFFFFF))


@jit
def _find(slots: I32, keys: I64, key: int) -> int:
    """Return the slot that holds a pair's index, or the empty slot where it belongs."""
    mask = len(slots) - 1
    slot = _hash_key(key) & mask
    while slots[slot] != NONE and keys[slots[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@jit
def _rehash(slots: I32, keys: I64, pairs: int) -> None:
    for pair in range(pairs):
        slots[_find(slots, keys, keys[pair])] = pair


@jit
def _update_count(key: int, delta: int, word: int, pairs: Pairs) -> None:
    """Add ``delta`` to a pair's count; if positive, record that the word contains the pair."""
    slot = _find(pairs.slots, pairs.keys, key)
    if pairs.slots[slot] == NONE:
        pairs.slots[slot] = pairs.n[PAIRS]
        pairs.keys[pairs.n[PAIRS]] = key
        pairs.n[PAIRS] += 1
    pair = pairs.slots[slot]
    pairs.counts[pair] += delta
    if delta > 0 and pairs.last_word[pair] != word:
        pairs.last_word[pair] = word
        pairs.n_words[pair] += 1
        pairs.rec_pairs[pairs.n[RECORDS]], pairs.rec_words[pairs.n[RECORDS]] = pair, word
        pairs.n[RECORDS] += 1


@jit
def _count(words: Words, pairs: Pairs) -> None:
    """Count the pairs of all words."""
    symbols = words.symbols
    for word in range(len(words.sizes)):
        start = words.starts[word]
        for i in range(start, start + words.sizes[word] - 1):
            key = symbols[i] * KEY_BASE + symbols[i + 1]
            _update_count(key, words.weights[word], word, pairs)


@jit
def _occurrences(words: Words, chosen: I32, first: int, second: int) -> int:
    count = 0
    symbols = words.symbols
    for word in chosen:
        start = words.starts[word]
        for i in range(start, start + words.sizes[word] - 1):
            count += symbols[i] == first and symbols[i + 1] == second
    return count


@jit
def _merge(words: Words, chosen: I32, first: int, second: int, merged: int, pairs: Pairs) -> None:
    """Merge a pair in the given words, from left to right, and update the counts of its neighbors."""
    symbols = words.symbols
    for word in chosen:
        start, weight = words.starts[word], words.weights[word]
        stop = start + words.sizes[word]
        i = to = start
        while i < stop:
            if i + 1 < stop and symbols[i] == first and symbols[i + 1] == second:
                if to > start:
                    before = symbols[to - 1] * KEY_BASE
                    _update_count(before + first, -weight, word, pairs)
                    _update_count(before + merged, weight, word, pairs)
                i += 2
                if i < stop:
                    after = symbols[i]
                    _update_count(second * KEY_BASE + after, -weight, word, pairs)
                    _update_count(merged * KEY_BASE + after, weight, word, pairs)
                symbols[to] = merged
            else:
                symbols[to] = symbols[i]
                i += 1
            to += 1
        words.sizes[word] = to - start


@jit
def _comes_before(one: int, other: int, entries: I64) -> bool:
    """Return whether a queue entry comes before another: higher count, then lower ids."""
    if entries[one, COUNT] != entries[other, COUNT]:
        return bool(entries[one, COUNT] > entries[other, COUNT])
    return bool(entries[one, PAIR_KEY] < entries[other, PAIR_KEY])


@jit
def _sift_up(heap: Offsets, size: int, entry: int, entries: I64) -> None:
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not _comes_before(entry, heap[parent], entries):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = entry


@jit
def _sift_down(heap: Offsets, size: int, entry: int, entries: I64) -> None:
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
def _enqueue(pairs: Pairs, queue: Queue) -> None:
    """Put every newly recorded pair into the queue, with the words that contain it."""
    n, entries = queue.n, queue.entries
    for i in range(n[RECORDS]):
        pair = pairs.rec_pairs[i]
        if queue.pool_index[pair] == NONE:
            queue.pool_index[pair] = n[POOL]
            if pairs.counts[pair] > 0:
                entry = n[ENTRIES]
                entries[entry, COUNT], entries[entry, PAIR] = pairs.counts[pair], pair
                entries[entry, PAIR_KEY] = pairs.keys[pair]
                entries[entry, START], entries[entry, SIZE] = n[POOL], pairs.n_words[pair]
                _sift_up(queue.heap, n[HEAP], entry, entries)
                n[ENTRIES] += 1
                n[HEAP] += 1
            n[POOL] += pairs.n_words[pair]
        queue.pool[queue.pool_index[pair]] = pairs.rec_words[i]
        queue.pool_index[pair] += 1
    for i in range(n[RECORDS]):
        pair = pairs.rec_pairs[i]
        queue.pool_index[pair], pairs.last_word[pair], pairs.n_words[pair] = NONE, NONE, 0
    n[RECORDS] = 0


@jit
def _pop(counts: I64, queue: Queue) -> int:
    """Remove and return the first entry whose count is up to date; ``NONE`` if the queue is empty."""
    n, heap, entries = queue.n, queue.heap, queue.entries
    while n[HEAP] > 0:
        entry = heap[0]
        current = counts[entries[entry, PAIR]]
        if entries[entry, COUNT] == current:
            n[HEAP] -= 1
            _sift_down(heap, n[HEAP], heap[n[HEAP]], entries)
            return int(entry)
        entries[entry, COUNT] = current
        _sift_down(heap, n[HEAP], entry, entries)
    return NONE


class _MergeTrainer:
    """The words, their pairs, and the queue of pairs, in arrays that grow."""

    def __init__(self, bounds: Offsets, data: Bytes, counts: Offsets, ids: I32) -> None:
        symbols = ids[data[bounds[0] : bounds[-1]]]
        sizes = np.diff(bounds).astype(np.int32)
        self._words = Words(symbols, bounds - bounds[0], sizes, counts)
        self._n = np.zeros(5, np.int64)
        n = 1 << 16  # pairs of bytes
        i32, i64 = np.zeros(0, np.int32), np.zeros(0, np.int64)
        none = np.full(n, NONE, np.int32)
        zeros = np.zeros(n, np.int64)
        self._pairs = Pairs(
            self._n, np.full(2 * n, NONE, np.int32), zeros, zeros.copy(), none,
            np.zeros(n, np.int32), i32, i32,
        )  # fmt: skip
        entries = np.zeros((0, 5), np.int64)
        self._queue = Queue(self._n, np.full(n, NONE, np.int64), i32, i64, entries)
        self._ensure_capacity(n, len(symbols))
        _count(self._words, self._pairs)
        self._enqueue()

    def _ensure_capacity(self, n_pairs: int, n_records: int) -> None:
        """Grow the arrays for this many new pairs and (pair, word) records."""
        pairs = self._pairs
        n_pairs += int(self._n[PAIRS])
        if n_pairs > len(pairs.keys):
            pairs = pairs._replace(
                keys=grow_array(pairs.keys, n_pairs),
                counts=grow_array(pairs.counts, n_pairs),
                last_word=grow_array(pairs.last_word, n_pairs, NONE),
                n_words=grow_array(pairs.n_words, n_pairs),
            )
            slots = np.full(1 << (2 * len(pairs.keys)).bit_length(), NONE, np.int32)
            _rehash(slots, pairs.keys, int(self._n[PAIRS]))
            pairs = pairs._replace(slots=slots)
            pool_index = grow_array(self._queue.pool_index, n_pairs, NONE)
            self._queue = self._queue._replace(pool_index=pool_index)
        self._pairs = pairs._replace(
            rec_pairs=grow_array(pairs.rec_pairs, n_records),
            rec_words=grow_array(pairs.rec_words, n_records),
        )

    def _enqueue(self) -> None:
        queue, n_records = self._queue, int(self._n[RECORDS])
        self._queue = queue._replace(
            pool=grow_array(queue.pool, int(self._n[POOL]) + n_records),
            heap=grow_array(queue.heap, int(self._n[HEAP]) + n_records),
            entries=grow_array(queue.entries, int(self._n[ENTRIES]) + n_records),
        )
        _enqueue(self._pairs, self._queue)

    def pop_best(self) -> tuple[int, int, int, I32] | None:
        """Remove the best pair: ``(first, second, count, words that contain it)``, or ``None``."""
        entry = _pop(self._pairs.counts, self._queue)
        if entry == NONE:
            return None
        count, key, _, start, size = self._queue.entries[entry].tolist()
        return key // KEY_BASE, key % KEY_BASE, count, self._queue.pool[start : start + size]

    def merge(self, first: int, second: int, merged: int, words: I32) -> None:
        """Merge a pair in the words that contain it."""
        count = _occurrences(self._words, words, first, second)
        self._ensure_capacity(min(4 * count, 4 * merged + 4), 2 * count)
        _merge(self._words, words, first, second, merged, self._pairs)
        self._enqueue()


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
