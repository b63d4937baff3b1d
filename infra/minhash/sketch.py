"""One compiled pass from Arrow's UTF-8 buffers to digests, signatures and shingle sets.

Texts are read in chunks through small buffers, so memory does not depend on their length.

A shingle's hash is ``xxh64(shingle)``. The signature uses its low 32 bits, the exact comparison all
64. Signatures follow datasketch's scheme ``affine32``, so this gives the same values::

    m = datasketch.MinHash(num_perm=112, seed=seed, scheme="affine32",
                           hashfunc=lambda b: xxhash.xxh64_intdigest(b) & 0xFFFFFFFF)
    m.update_batch(infra.minhash.shingles.shingles(text, 5))
    m.hashvalues
"""

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import I32, I64, U8, U32, U64
from infra.compute.jit import jit
from infra.formats.arrow_text import utf8_buffers
from infra.formats.unicode_tables import CJK, SPACE, WORD, char_tables, decode_utf8
from infra.minhash.shingles import MAX_WORD_CHARS
from infra.minhash.xxh64 import load_u64, store_u64, xxh64_windows

# Bytes of text per chunk: its buffers fit into the second-level cache.
CHUNK_BYTES = 1 << 16
# A chunk ends at the end of a word.
CHUNK_SLACK = 8 * MAX_WORD_CHARS
# Bytes of the BLAKE2b digest of the normalized text.
DIGEST_BYTES = 16
# Below U+0300 every text is in NFC; the first byte of U+0300 in UTF-8 is 0xCC.
FIRST_UNSTABLE = 0xCC
_HIGH, _ONES = np.uint64(0x8080808080808080), np.uint64(0x0101010101010101)


@dataclass(frozen=True)
class Sketches:
    """The sketches of n documents.

    Attributes:
        signatures: uint32[n, bands * rows], datasketch's ``hashvalues``; all bits are set if a text
            has no shingle.
        digests: n BLAKE2b-128 digests of the normalized texts
            (`infra.minhash.shingles.normalize`).
        shingle_counts: int64[n], shingles with repeats.
    """

    signatures: U32
    digests: list[bytes]
    shingle_counts: I64


def affine_permutations(num_permutations: int, seed: int) -> tuple[U32, U32]:
    """Return the factors and offsets of datasketch's ``affine32`` scheme: uint32[k] each."""
    generator = np.random.RandomState(seed)
    factors = generator.randint(0, 1 << 31, num_permutations, dtype=np.uint32)
    offsets = generator.randint(0, 1 << 32, num_permutations, dtype=np.uint32)
    return factors * np.uint32(2) + np.uint32(1), offsets


@jit
def _encode_utf8(point: int, out: U8, n: int) -> int:
    if point < 0x80:
        out[n] = point
        return n + 1
    if point < 0x800:
        out[n] = 0xC0 | (point >> 6)
        out[n + 1] = 0x80 | (point & 0x3F)
        return n + 2
    if point < 0x10000:
        out[n] = 0xE0 | (point >> 12)
        out[n + 1] = 0x80 | ((point >> 6) & 0x3F)
        out[n + 2] = 0x80 | (point & 0x3F)
        return n + 3
    out[n] = 0xF0 | (point >> 18)
    out[n + 1] = 0x80 | ((point >> 12) & 0x3F)
    out[n + 2] = 0x80 | ((point >> 6) & 0x3F)
    out[n + 3] = 0x80 | (point & 0x3F)
    return n + 4


@jit
def ascii_word(eight: np.uint64) -> tuple[int, np.uint64]:
    """Count how many of eight bytes, from the first, are ASCII letters, digits or ``_``.

    All bytes are tested by the same instructions: a sum sets the high bit of each byte that is not
    less than a bound. Also return the bytes in lower case.
    """
    low = eight & np.uint64(0x7F7F7F7F7F7F7F7F)
    ascii_ = ~eight & _HIGH
    letter = low | np.uint64(0x2020202020202020)
    # 0x80 - ord("a") = 0x1F, 0x80 - ord("z") - 1 = 0x05, and so on.
    letters = (letter + np.uint64(0x1F1F1F1F1F1F1F1F)) & ~(letter + np.uint64(0x0505050505050505))
    digits = (low + np.uint64(0x5050505050505050)) & ~(low + np.uint64(0x4646464646464646))
    upper = (low + np.uint64(0x3F3F3F3F3F3F3F3F)) & ~(low + np.uint64(0x2525252525252525))
    underscore = ~((low ^ np.uint64(0x5F5F5F5F5F5F5F5F)) + np.uint64(0x7F7F7F7F7F7F7F7F))
    other = ~((letters | digits | underscore) & ascii_) & _HIGH
    first = other & (~other + np.uint64(1))  # the lowest bit; none where all eight are
    below = ((first >> np.uint64(7)) - np.uint64(1)) & _ONES
    found = (below * _ONES) >> np.uint64(56)
    return int(np.int64(found)), eight | ((upper & ascii_) >> np.uint64(2))


@jit
def _read_chunk(
    data: U8,
    i: int,
    end: int,
    classes: U8,
    lower: I32,
    plain: U8,
    words: U8,
    starts: I64,
    state: I64,
    by_character: int,
) -> int:
    """Read one chunk of a text from byte ``i``; return the byte at which the next chunk starts.

    ``plain`` receives the normalized text. ``words`` receives the words, one space after each, with
    the start of word k (and of the word that would follow the last) in ``starts``. If
    ``by_character`` is 1, ``words`` receives the characters of the normalized text instead, each as
    a unit. ``state`` is [words in the buffer, bytes written to ``plain``, whether an earlier chunk
    wrote to ``plain``, whether white space is pending].
    """
    n = state[0]
    word_end = starts[n]
    written = 0
    started = state[2] != 0
    space = state[3] != 0
    length = 0  # characters of the word being read
    limit = i + CHUNK_BYTES
    while i < end:
        if by_character == 0 and i + 8 <= end and length + 8 <= MAX_WORD_CHARS:
            ascii_bytes, folded = ascii_word(load_u64(data, np.uint64(i)))
            if ascii_bytes:
                if space and started:
                    plain[np.uint64(written)] = 0x20
                    written += 1
                space = False
                started = True
                store_u64(plain, np.uint64(written), folded)
                store_u64(words, np.uint64(word_end), folded)
                written += ascii_bytes
                word_end += ascii_bytes
                length += ascii_bytes
                i += ascii_bytes
                if ascii_bytes == 8 or i >= end:
                    continue
        byte = data[np.uint64(i)]
        if byte < 0x80:
            point = int(np.int64(byte))
            following = i + 1
        else:
            point, following = decode_utf8(data, i)
        kind = classes[np.uint64(point)]
        if by_character != 0:
            if i >= limit:
                break
        elif not kind & WORD or kind & CJK or length == MAX_WORD_CHARS:
            if length:
                words[np.uint64(word_end)] = 0x20
                word_end += 1
                n += 1
                starts[n] = word_end
                length = 0
            if i >= limit:
                break
        i = following
        if kind & SPACE:
            space = True
            while i < end and data[np.uint64(i)] == 0x20:
                i += 1
            continue
        if space:
            if started:
                plain[np.uint64(written)] = 0x20
                written += 1
                if by_character != 0:
                    words[np.uint64(word_end)] = 0x20
                    word_end += 1
                    n += 1
                    starts[n] = word_end
            space = False
        started = True
        small = int(np.int64(lower[np.uint64(point)]))
        if by_character != 0:
            word_end = _encode_utf8(small, words, word_end)
            n += 1
            starts[n] = word_end
            written = _encode_utf8(small, plain, written)
        elif small < 0x80:
            plain[np.uint64(written)] = small
            written += 1
            if kind & WORD:
                words[np.uint64(word_end)] = small
                word_end += 1
                length += 1
        else:
            written = _encode_utf8(small, plain, written)
            if kind & WORD:
                word_end = _encode_utf8(small, words, word_end)
                length += 1
                if kind & CJK:
                    length = MAX_WORD_CHARS
    if i >= end and length:
        words[np.uint64(word_end)] = 0x20
        n += 1
        starts[n] = word_end + 1
    state[0] = n
    state[1] = written
    state[2] = 1 if started else 0
    state[3] = 1 if space else 0
    return i


@jit
def _hash_shingles(words: U8, starts: I64, state: I64, n: int, gap: int, hashes: U64) -> int:
    """Hash the shingles of n units that end in the buffer, then keep its last n - 1 units.

    ``gap`` bytes separate two units. Return the number of shingles.
    """
    have = int(state[0])
    count = have - n + 1
    if count <= 0:
        return 0
    xxh64_windows(words, starts, count, n, gap, hashes)
    first = starts[count]
    for i in range(first, starts[have]):
        words[i - first] = words[i]
    for k in range(count, have + 1):
        starts[k - count] = starts[k] - first
    state[0] = n - 1
    return count


@jit
def _update_minima(hashes: U64, count: int, mixed: U32, a: U32, b: U32, minima: U32) -> None:
    """``minima = min(minima, a * fmix32(hash) + b mod 2**32)`` over all hashes.

    fmix32 is MurmurHash3's finalizer, which datasketch applies before its permutations.
    """
    for i in range(count):
        h = np.uint32(hashes[i] & np.uint64(0xFFFFFFFF))
        h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
        h = np.uint32(h * np.uint32(0x85EBCA6B))
        h = np.uint32(h ^ np.uint32(h >> np.uint32(13)))
        h = np.uint32(h * np.uint32(0xC2B2AE35))
        mixed[i] = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
    # The outer loop is over permutations: the running minimum stays in a register and the inner loop
    # is a vector reduction. Without the casts Numba widens to 64 bits and the values differ.
    for p in range(len(a)):
        factor = a[p]
        offset = b[p]
        smallest = minima[p]
        for i in range(count):
            value = np.uint32(np.uint32(factor * mixed[i]) + offset)
            smallest = min(smallest, value)
        minima[p] = smallest


class ShingleReader:
    """Read shingles of texts; holds the buffers that one thread needs."""

    def __init__(self, n: int, unit: str = "words") -> None:
        """Allocate the buffers for shingles of ``n`` words, or of ``n`` characters."""
        self.n = n
        self._by_character = int(unit == "characters")
        self._classes, self._lower = char_tables()
        # Folding lengthens a character from at most two bytes to three, and a word takes one byte
        # more than its text; the words carried over from the previous chunk are added.
        size = 2 * (CHUNK_BYTES + CHUNK_SLACK) + CHUNK_SLACK * n
        self._plain = np.zeros(size, np.uint8)
        self._words = np.zeros(size, np.uint8)
        self._starts = np.zeros(size, np.int64)
        self._hashes = np.zeros(size, np.uint64)
        self._mixed = np.zeros(size, np.uint32)
        self._state = np.zeros(4, np.int64)

    def sketch(
        self, texts: "pa.Array[Any] | pa.ChunkedArray[Any]", seed: int, num_permutations: int
    ) -> Sketches:
        """Sketch a column of n texts; null counts as empty."""
        offsets, data = utf8_buffers(texts)
        n = len(offsets) - 1
        a, b = affine_permutations(num_permutations, seed)
        signatures = np.full((n, num_permutations), 0xFFFFFFFF, np.uint32)
        total = np.zeros(n, np.int64)
        digests = []
        plain = memoryview(self._plain)  # type: ignore[arg-type]  # numpy 2 on 3.11: arrays are buffers
        for row in range(n):
            digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
            for count in self._read_chunks(data, int(offsets[row]), int(offsets[row + 1])):
                _update_minima(self._hashes, count, self._mixed, a, b, signatures[row])
                digest.update(plain[: self._state[1]])
                total[row] += count
            digests.append(digest.digest())
        return Sketches(signatures, digests, total)

    def shingle_sets(
        self, texts: "pa.Array[Any] | pa.ChunkedArray[Any]", rows: Sequence[int]
    ) -> dict[int, U64]:
        """Return the set of shingle hashes of some rows: sorted, distinct, uint64."""
        offsets, data = utf8_buffers(texts)
        sets = {}
        for row in rows:
            counts = self._read_chunks(data, int(offsets[row]), int(offsets[row + 1]))
            hashes = [self._hashes[:count].copy() for count in counts]
            sets[row] = _sorted_unique(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
        return sets

    def _read_chunks(self, data: U8, start: int, end: int) -> Iterator[int]:
        """Yield the number of shingles of each chunk; hashes and plain text are in the buffers."""
        data, i, end = to_nfc(data, start, end)
        self._state[:] = 0
        self._starts[0] = 0
        while i < end:
            i = _read_chunk(
                data, i, end, self._classes, self._lower, self._plain, self._words, self._starts,
                self._state, self._by_character,
            )  # fmt: skip
            gap = 0 if self._by_character else 1
            yield _hash_shingles(self._words, self._starts, self._state, self.n, gap, self._hashes)


def _sorted_unique(hashes: U64) -> U64:
    """Return sorted, distinct hashes. Faster than `numpy.unique`, which uses a hash table."""
    hashes = np.sort(hashes)
    return hashes[np.insert(hashes[1:] != hashes[:-1], 0, True)] if len(hashes) else hashes


def to_nfc(data: U8, start: int, end: int) -> tuple[U8, int, int]:
    """Return a text in Unicode NFC: itself if it is in NFC, otherwise a normalized copy.

    It is checked in chunks that end before an ASCII character, since nothing composes with those.
    """
    if start == end or data[start:end].max() < FIRST_UNSTABLE:
        return data, start, end
    pieces: list[bytes] = []
    changed = False
    i = start
    while i < end:
        j = min(i + CHUNK_BYTES, end)
        while j < end and data[j] >= 0x80:
            ascii_at = np.flatnonzero(data[j : min(j + CHUNK_BYTES, end)] < 0x80)
            j = j + int(ascii_at[0]) if len(ascii_at) else min(j + CHUNK_BYTES, end)
        if data[i:j].max() >= FIRST_UNSTABLE and not _is_nfc(data[i:j]):
            if not changed:
                pieces, changed = [data[start:i].tobytes()], True
            pieces.append(unicodedata.normalize("NFC", data[i:j].tobytes().decode()).encode())
        elif changed:
            pieces.append(data[i:j].tobytes())
        i = j
    if not changed:
        return data, start, end
    copy = np.frombuffer(b"".join(pieces), np.uint8)
    return copy, 0, len(copy)


def _is_nfc(data: U8) -> bool:
    """Return whether text is in NFC; of ASCII characters, only those before others matter."""
    chosen = data >= 0x80
    chosen[:-1] |= chosen[1:]
    return unicodedata.is_normalized("NFC", data[chosen].tobytes().decode())
