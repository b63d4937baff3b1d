"""A hash table of distinct words, and texts as sequences of word ids."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import I32, U64
from infra.compute.jit import jit, jit_inline
from infra.formats.arrow_text import Bytes, Offsets
from infra.formats.unicode_tables import decode_utf8
from tasks.tokenize.char_classes import NEWLINE, SPACE, CharClasses, char_classes
from tasks.tokenize.pretokenizer import PretokenizerRule
from tasks.tokenize.pretokenizer_kernel import MAX_WORD_BYTES, rule_flags, word_end

WordIds = I32

BUFFER_WORDS = 1 << 20  # word ids per batch
END_OF_TEXT = -1  # follows the last word of a text

# Indices into the state of a table: the text being read, the byte reached in it, distinct words,
# their bytes, and word ids in the buffer.
DOCUMENT, AT, WORDS, BYTES, READ = range(5)


@jit_inline
def hash_word(data: Bytes, at: int, end: int) -> np.uint64:
    """Return the 64-bit FNV-1a hash of a word, with a finalizer that mixes all bits."""
    value = np.uint64(0xCBF29CE484222325)
    for i in range(at, end):
        value = (value ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
    value ^= value >> np.uint64(32)
    value *= np.uint64(0x9E3779B97F4A7C15)
    return value ^ (value >> np.uint64(29))


@jit_inline
def _equal(data: Bytes, at: int, size: int, kept: Bytes, start: int, stop: int) -> bool:
    same = stop - start == size
    i = 0
    while same and i < size:
        same = bool(data[at + i] == kept[start + i])
        i += 1
    return same


@jit_inline
def _find_slot(
    data: Bytes, at: int, end: int, hashed: np.uint64, slots: U64, bounds: Offsets, kept: Bytes
) -> int:
    """Return the slot that holds a word, or the empty slot where it belongs.

    A slot holds the upper half of the hash and, in its lower half, the word's id plus one.
    """
    mask = np.uint64(len(slots) - 1)
    low = np.uint64(0xFFFFFFFF)
    slot = hashed & mask
    while slots[slot]:
        if (slots[slot] ^ hashed) >> np.uint64(32) == 0:
            word = np.int64(slots[slot] & low) - 1
            if _equal(data, at, end - at, kept, bounds[word], bounds[word + 1]):
                break
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


@jit
def _read(
    data: Bytes,
    offsets: Offsets,
    state: Offsets,
    classes: CharClasses,
    flags: int,
    slots: U64,
    bounds: Offsets,
    kept: Bytes,
    read: WordIds,
) -> bool:
    """Convert texts to word ids until they end (True), or ``read`` or the table is full (False)."""
    run = np.zeros(2, np.int64)
    document, at, words, used, count = state[0], state[1], state[2], state[3], state[4]
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    capacity = min(len(bounds) - 1, len(slots) // 2)
    done = False
    while True:
        if document == len(offsets) - 1:
            done = True
            break
        if count == len(read):
            break
        end = offsets[document + 1]
        if at >= end:
            read[count] = END_OF_TEXT
            count += 1
            document += 1
            continue
        stop = word_end(data, at, end, classes, flags, run)
        if stop - at > MAX_WORD_BYTES:
            stop = at + MAX_WORD_BYTES
            while data[stop] & 0xC0 == 0x80:  # not in the middle of a character
                stop -= 1
        hashed = hash_word(data, at, stop)
        slot = _find_slot(data, at, stop, hashed, slots, bounds, kept)
        if slots[slot]:
            word = np.int64(slots[slot] & low) - 1
        else:
            if words == capacity or used + stop - at > len(kept):
                break
            word = words
            for i in range(at, stop):
                kept[used + i - at] = data[i]
            used += stop - at
            words += 1
            bounds[words] = used
            slots[slot] = ((hashed >> high) << high) | np.uint64(words)
        read[count] = word
        count += 1
        at = stop
    state[0], state[1], state[2], state[3], state[4] = document, at, words, used, count
    return done


@jit
def _rehash(bounds: Offsets, kept: Bytes, words: int, slots: U64) -> None:
    """Insert all words into empty slots."""
    mask, high = np.uint64(len(slots) - 1), np.uint64(32)
    for word in range(words):
        hashed = hash_word(kept, bounds[word], bounds[word + 1])
        slot = hashed & mask
        while slots[slot]:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = ((hashed >> high) << high) | np.uint64(word + 1)


@jit
def _tally(read: WordIds, counts: Offsets) -> None:
    for word in read:
        if word >= 0:
            counts[word] += 1


@jit
def _count_whitespace_words(
    data: Bytes, offsets: Offsets, classes: CharClasses, result: Offsets
) -> None:
    """Count the whitespace-separated words of each text, the denominator of fertility."""
    for row in range(len(result)):
        at, end, inside, count = offsets[row], offsets[row + 1], False, 0
        while at < end:
            point, at = decode_utf8(data, at)
            white = classes[point] in (SPACE, NEWLINE)
            count += inside and white
            inside = not white
        result[row] = count + inside


class WordTable:
    """Distinct words in order of first occurrence, looked up by their bytes."""

    def __init__(self, rule: PretokenizerRule) -> None:
        """Create an empty table; ``rule`` splits texts into words."""
        self.flags = rule_flags(rule)
        self._slots = np.zeros(1 << 16, np.uint64)
        self._bounds = np.zeros((1 << 15) + 1, np.int64)
        self._kept = np.zeros(1 << 18, np.uint8)
        self._state = np.zeros(5, np.int64)

    def __len__(self) -> int:
        return int(self._state[WORDS])

    @property
    def total_bytes(self) -> int:
        """Total length of all distinct words, in bytes."""
        return int(self._state[BYTES])

    def iter_word_ids(self, offsets: Offsets, data: Bytes) -> Iterator[WordIds]:
        """Yield the word ids of texts in batches, ``END_OF_TEXT`` after the last word of each text.

        The next batch overwrites the last.
        """
        buffer = np.empty(BUFFER_WORDS, np.int32)
        classes = char_classes()
        self._state[DOCUMENT], self._state[AT] = 0, offsets[0]
        done = False
        while not done:
            done = _read(
                data, offsets, self._state, classes, self.flags,
                self._slots, self._bounds, self._kept, buffer,
            )  # fmt: skip
            n_read = int(self._state[READ])
            if done or n_read == BUFFER_WORDS:
                self._state[READ] = 0
                if n_read:
                    yield buffer[:n_read]
            else:
                self._grow()

    def _grow(self) -> None:
        words = len(self)
        if words + 1 >= len(self._bounds) or 2 * words >= len(self._slots):
            self._bounds = np.concatenate([self._bounds, np.zeros(words, np.int64)])
            self._slots = np.zeros(4 * len(self._slots), np.uint64)
            _rehash(self._bounds, self._kept, words, self._slots)
        else:
            more = np.zeros(len(self._kept) + MAX_WORD_BYTES, np.uint8)
            self._kept = np.concatenate([self._kept, more])

    def column(self, first: int = 0, last: int | None = None) -> "pa.Array[Any]":
        """Return the words with ids in ``[first, last)``: ``large_string``."""
        stop = len(self) if last is None else min(last, len(self))
        bounds = self._bounds[first : stop + 1]
        begin, end = int(bounds[0]), int(bounds[-1])
        buffers = [None, pa.py_buffer(bounds - begin), pa.py_buffer(self._kept[begin:end].copy())]
        return pa.Array.from_buffers(pa.large_string(), len(bounds) - 1, buffers)


def count_word_frequencies(rule: PretokenizerRule, offsets: Offsets, data: Bytes) -> pa.Table:
    """Count how often each word occurs: columns ``word`` (ascending by bytes) and ``count``."""
    words = WordTable(rule)
    counts = np.zeros(0, np.int64)
    for read in words.iter_word_ids(offsets, data):
        counts = np.concatenate([counts, np.zeros(len(words) - len(counts), np.int64)])
        _tally(read, counts)
    table = pa.table({"word": words.column(), "count": counts})
    return table.sort_by("word")


def count_whitespace_words(offsets: Offsets, data: Bytes) -> Offsets:
    """Count the whitespace-separated words of each text: int64[n]."""
    result = np.zeros(len(offsets) - 1, np.int64)
    _count_whitespace_words(data, offsets, char_classes(), result)
    return result


def grow_array(array: Any, min_length: int, fill: int = 0) -> Any:
    """Return the array if it is long enough, else a copy at least twice as long, padded with ``fill``."""
    if min_length <= len(array):
        return array
    shape = (max(min_length, 2 * len(array)), *array.shape[1:])
    result = np.full(shape, fill, array.dtype)
    result[: len(array)] = array
    return result
