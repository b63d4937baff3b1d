"""Signatures equal datasketch's, digests equal hashlib's, for any text."""

import hashlib
import unicodedata

import datasketch
import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infra.minhash.shingles import lowercase_nfc, normalize, shingles, split_words
from infra.minhash.sketch import CHUNK_BYTES, ShingleReader, Sketches, ascii_word
from infra.minhash.xxh64 import load_u64, xxh64, xxh64_windows

# Letters of every length in UTF-8, case pairs that change length, marks, scripts without spaces,
# white space of several kinds, and the characters whose lower case is irregular.
ALPHABET = (
    "aB9_ .,-\n\t\u00a0\u2003\u0130\u03a3\u023a\u212a\u0301e\u00c9漢字カ・ไทย\u1100\u1161😀\x1c\x85"
)
TEXTS = st.text(st.one_of(st.sampled_from(ALPHABET), st.characters(exclude_categories=["Cs"])))
READER = ShingleReader(5)


def sketch(texts: list[str], seed: int = 1, reader: ShingleReader = READER) -> Sketches:
    return reader.sketch(pa.array(texts, pa.large_string()), seed, 112)


def reference(text: str, seed: int = 1, n: int = 5) -> datasketch.MinHash:
    minhash = datasketch.MinHash(
        num_perm=112,
        seed=seed,
        scheme="affine32",
        hashfunc=lambda data: xxhash.xxh64_intdigest(data) & 0xFFFFFFFF,
    )
    minhash.update_batch(shingles(text, n))
    return minhash


def check(text: str, seed: int = 1) -> None:
    got = sketch([text], seed)
    assert got.signatures[0].tolist() == reference(text, seed).hashvalues.tolist()
    assert got.digests[0] == hashlib.blake2b(normalize(text).encode(), digest_size=16).digest()
    assert got.shingle_counts[0] == len(shingles(text, 5))
    hashes = {xxhash.xxh64_intdigest(shingle) for shingle in shingles(text, 5)}
    sets = READER.shingle_sets(pa.array([text], pa.large_string()), [0])
    assert sets[0].tolist() == sorted(hashes)


@given(TEXTS, st.integers(0, 2**32 - 1))
@example("", 1)
@example("one two three four", 1)
@example("one two three four five", 1)
@settings(max_examples=300)
def test_any_text(text: str, seed: int) -> None:
    check(text, seed)


@given(
    st.lists(st.text(ALPHABET, min_size=1, max_size=90), min_size=1, max_size=8), st.integers(1, 9)
)
@settings(max_examples=25)
def test_texts_longer_than_a_chunk(fragments: list[str], spread: int) -> None:
    unit = "".join(fragments)
    check(unit * (spread * CHUNK_BYTES // (3 * len(unit)) + 1))


@pytest.mark.parametrize("unit", ["a", "漢", "\u023a", " ", "A ", "é\u0301", "x" * 63 + "é"])
def test_text_without_words_to_break_at(unit: str) -> None:
    check(unit * (2 * CHUNK_BYTES // len(unit.encode()) + 7))


@given(st.binary(max_size=100), st.integers(0, 2**64 - 1))
@settings(max_examples=300)
def test_hash_is_xxh64(data: bytes, seed: int) -> None:
    array = np.frombuffer(data, np.uint8)
    assert xxh64(array, 0, len(data), np.uint64(seed)) == xxhash.xxh64_intdigest(data, seed)


def test_rows_do_not_see_each_other() -> None:
    texts = ["The quick brown fox jumps over it.", "", "漢字かな交じり文", "ten words " * 5, "x"]
    together, alone = sketch(texts), [sketch([text]) for text in texts]
    for row, single in enumerate(alone):
        assert together.signatures[row].tolist() == single.signatures[0].tolist()
        assert together.digests[row] == single.digests[0]


def test_sliced_column_with_nulls() -> None:
    column = pa.array(["zero", None, "one two three four five", "end"], pa.string())
    whole = READER.sketch(column, 1, 112)
    part = READER.sketch(column.slice(1, 2), 1, 112)
    assert part.digests == whole.digests[1:3]
    assert part.digests[0] == hashlib.blake2b(b"", digest_size=16).digest()
    assert part.shingle_counts.tolist() == [0, 1]


@given(TEXTS)
@settings(max_examples=200)
def test_composed_and_decomposed_text_are_one(text: str) -> None:
    other = unicodedata.normalize("NFD", text)
    assert sketch([text]).digests == sketch([other]).digests
    assert sketch([text]).signatures.tolist() == sketch([other]).signatures.tolist()


def test_definitions() -> None:
    assert normalize("  É\u00a0B\n\nc! ") == "é b c!"
    assert lowercase_nfc("I\u0130") == "ii"
    assert list(split_words("It's 漢字, snake_case")) == ["it", "s", "漢", "字", "snake_case"]
    assert list(split_words("x" * 130)) == ["x" * 64, "x" * 64, "xx"]
    assert shingles("a b c", 2) == [b"a b", b"b c"]
    assert shingles("a", 2) == []


@given(st.text(st.characters(max_codepoint=0x7F) | st.sampled_from("abcXYZ019__ é"), max_size=400))
@example("/0189:@AYZ[`ayz{_^~\x7f" * 9)
@settings(max_examples=300)
def test_text_that_is_mostly_ascii(text: str) -> None:
    check(text)


def test_eight_bytes_are_classified_like_single_ones() -> None:
    wordly = {byte for byte in range(128) if chr(byte).isalnum() or chr(byte) == "_"}
    for byte in range(256):
        for index in range(8):
            eight = bytearray(b"aZ0_qB9z")
            eight[index] = byte
            value = load_u64(np.frombuffer(bytes(eight), np.uint8), np.uint64(0))
            result, folded = ascii_word(np.uint64(value))
            assert result == (8 if byte in wordly else index)
            assert int(folded).to_bytes(8, "little") == bytes(eight).lower()


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1), st.integers(1, 6))
@settings(max_examples=300)
def test_hashes_of_windows_are_xxh64(units: list[bytes], n: int) -> None:
    data = b" ".join(units) + b" "
    starts = np.cumsum([0, *(len(unit) + 1 for unit in units)])
    count = max(0, len(units) - n + 1)
    out = np.zeros(count, np.uint64)
    xxh64_windows(np.frombuffer(data + b"?" * 31, np.uint8), starts, count, n, 1, out)
    windows = [b" ".join(units[k : k + n]) for k in range(count)]
    assert out.tolist() == [xxhash.xxh64_intdigest(window) for window in windows]


@given(TEXTS, st.integers(1, 40))
@settings(max_examples=100)
def test_characters_as_units(text: str, n: int) -> None:
    reader = ShingleReader(n, "characters")
    column = pa.array([text], pa.large_string())
    got = sketch([text], 1, reader)
    expected = datasketch.MinHash(
        num_perm=112,
        seed=1,
        scheme="affine32",
        hashfunc=lambda data: xxhash.xxh64_intdigest(data) & 0xFFFFFFFF,
    )
    result = shingles(text, n, "characters")
    expected.update_batch(result)
    assert got.signatures[0].tolist() == expected.hashvalues.tolist()
    hashes = {xxhash.xxh64_intdigest(shingle) for shingle in result}
    assert reader.shingle_sets(column, [0])[0].tolist() == sorted(hashes)
