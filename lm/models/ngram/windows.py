"""Windows of a token stream: the rows that are sorted and shuffled to count n-grams.

A stream is documents one after the other, each followed by ``eos``. A window starts at each token,
and at the ``eos`` before each document; it holds the ids that follow up to the next ``eos``, at most
``size`` in all, and the id to its left. So the n-grams of every order are the prefixes of windows,
and the left neighbors of a prefix are those of the windows that start with it.

As the first of two or more ids, ``eos`` stands for the beginning of a document (``<s>`` elsewhere); as
the last id it stands for its end (``</s>``).
"""

from dataclasses import dataclass

import numpy as np

from infra.compute.arrays import I32, I64, U64
from infra.compute.jit import jit
from infra.formats.megatron import Tokens

WORD_BITS = 64
DIGIT_BITS = 8  # of the radix sort; with 11 the 2,048 write positions exceed the first cache


@dataclass(frozen=True)
class WindowFormat:
    """How windows are packed in rows of 64-bit words, such that rows sort as their ids do.

    Attributes:
        vocab_size: number of ids.
        eos: the id that ends documents.
        size: ids of a window, at least 2; the id to the left comes after them.
    """

    vocab_size: int
    eos: int
    size: int

    @property
    def id_bits(self) -> int:
        """Bits of an id."""
        return max(1, (self.vocab_size - 1).bit_length())

    @property
    def ids_per_word(self) -> int:
        """Ids in a 64-bit word, from its most significant bits on."""
        return WORD_BITS // self.id_bits

    @property
    def width(self) -> int:
        """Words per row."""
        return -(-(self.size + 1) // self.ids_per_word)

    def pack(self, stream: Tokens) -> U64:
        """Return a row for each token of a stream of whole documents: uint64[n, width]."""
        ids = stream.astype(np.int64)
        return _pack_windows(ids, self.eos, self.size, self.id_bits, self.ids_per_word, self.width)

    def unpack(self, rows: U64) -> I32:
        """Return the ids of rows, a line per column: int32[size + 1, n]; ids past ``eos`` are 0."""
        return _unpack_windows(rows, self.size + 1, self.id_bits, self.ids_per_word)

    def sort(self, rows: U64) -> U64:
        """Sort rows by the ids of their windows; their array is used as scratch space."""
        digits = []
        top = self.ids_per_word * self.id_bits
        for word in reversed(range(-(-self.size // self.ids_per_word))):
            last_column = min((word + 1) * self.ids_per_word, self.size) - 1
            bits = range(self._shift(last_column), top, DIGIT_BITS)
            digits += [(word, bit, min(DIGIT_BITS, top - bit)) for bit in bits]
        return _sort_rows(rows, np.empty_like(rows), np.array(digits, np.int64))

    def first_two(self, rows: U64) -> U64:
        """Return the first two ids of each row as one number: uint64[n]."""
        pairs: U64 = rows[:, 0] >> np.uint64(self._shift(1))
        return pairs

    def _shift(self, column: int) -> int:
        return (self.ids_per_word - 1 - column % self.ids_per_word) * self.id_bits


@jit
def _pack_windows(
    ids: I64, eos: int, size: int, id_bits: int, ids_per_word: int, width: int
) -> U64:
    rows = np.zeros((len(ids), width), np.uint64)
    for i in range(len(ids)):
        first = ids[i - 1] if i else eos
        top = (ids_per_word - 1) * id_bits
        rows[i, 0] = np.uint64(first) << np.uint64(top)
        for column in range(1, size):
            following = ids[i + column - 1]
            shift = (ids_per_word - 1 - column % ids_per_word) * id_bits
            rows[i, column // ids_per_word] |= np.uint64(following) << np.uint64(shift)
            if following == eos:
                break
        if first != eos:
            left = ids[i - 2] if i > 1 else eos
            shift = (ids_per_word - 1 - size % ids_per_word) * id_bits
            rows[i, size // ids_per_word] |= np.uint64(left) << np.uint64(shift)
    return rows


@jit
def _unpack_windows(rows: U64, columns: int, id_bits: int, ids_per_word: int) -> I32:
    ids = np.empty((columns, len(rows)), np.int32)
    mask = (np.uint64(1) << np.uint64(id_bits)) - np.uint64(1)
    for column in range(columns):
        word = column // ids_per_word
        shift = np.uint64((ids_per_word - 1 - column % ids_per_word) * id_bits)
        for i in range(len(rows)):
            ids[column, i] = np.int32((rows[i, word] >> shift) & mask)
    return ids


@jit
def _sort_rows(rows: U64, scratch: U64, digits: I64) -> U64:
    """Sort by radix, digits (word, lowest bit, bits) from the least significant on; stable."""
    width = rows.shape[1]
    for d in range(len(digits)):
        word, shift = digits[d, 0], np.uint64(digits[d, 1])
        mask = (np.uint64(1) << np.uint64(digits[d, 2])) - np.uint64(1)
        following = np.zeros((1 << DIGIT_BITS) + 1, np.int64)
        for i in range(len(rows)):
            following[np.int64((rows[i, word] >> shift) & mask) + 1] += 1
        if following.max() == len(rows):
            continue  # all rows have the same digit
        for digit in range(1 << DIGIT_BITS):
            following[digit + 1] += following[digit]
        for i in range(len(rows)):
            value = np.int64((rows[i, word] >> shift) & mask)
            index = following[value]
            following[value] += 1
            for k in range(width):
                scratch[index, k] = rows[i, k]
        rows, scratch = scratch, rows
    return rows
