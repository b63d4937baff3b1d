"""Encode text through a cache of words: each distinct word is encoded once, by `tokenizers` itself.

Merges never cross words, so the ids of a text are the concatenated ids of its words. Nearly all words
of a text have occurred before; looking them up is many times faster than encoding the text.
"""

import json
from itertools import chain

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from infra.compute.arrays import Bools
from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets
from infra.formats.byte_level import token_to_bytes
from infra.formats.megatron import Tokens
from tasks.tokenize.pretokenizer import PretokenizerRule
from tasks.tokenize.word_table import END_OF_TEXT, WordIds, WordTable, grow_array

MAX_CACHE_BYTES = 1 << 28  # bytes of words; beyond it the cache is cleared, which costs time only
ENCODE_BATCH = 1 << 16  # words per call of `tokenizers`


@jit
def _count_tokens(read: WordIds, starts: Offsets) -> int:
    """Count the tokens of words, end-of-text tokens included."""
    total = 0
    for word in read:
        total += 1 if word == END_OF_TEXT else starts[word + 1] - starts[word]
    return total


@jit
def _write_tokens(
    read: WordIds,
    starts: Offsets,
    ids: WordIds,
    eos_id: int,
    tokens: Tokens,
    lengths: Offsets,
    at: Offsets,
) -> None:
    """Write the tokens of words.

    ``at`` carries the state between calls: the current text and how many tokens it has so far.
    """
    to, document, text_start = 0, at[0], -at[1]
    for word in read:
        if word == END_OF_TEXT:
            tokens[to] = eos_id
            to += 1
            lengths[document] = to - text_start
            document, text_start = document + 1, to
        else:
            for i in range(starts[word], starts[word + 1]):
                tokens[to] = ids[i]
                to += 1
    at[0], at[1] = document, to - text_start


@jit
def _flag_texts(read: WordIds, unencodable: Bools, first: int, result: Bools) -> None:
    """Flag the texts, from text ``first`` on, that contain a word which cannot be encoded."""
    document = first
    for word in read:
        if word == END_OF_TEXT:
            document += 1
        elif unencodable[word]:
            result[document] = True


@jit
def _compare_bytes(
    offsets: Offsets, data: Bytes, tokens: Tokens, starts: Offsets, rows: npt.NDArray[np.intp],
    eos_id: int, bounds: Offsets, token_bytes: Bytes, result: Bools,
) -> None:  # fmt: skip
    """Compare the bytes of the tokens with those of the text, for the given rows."""
    for i in range(len(rows)):
        at, end = offsets[rows[i]], offsets[rows[i] + 1]
        token = starts[rows[i]]
        equal = True
        while equal and tokens[token] != eos_id:
            first, last = bounds[tokens[token]], bounds[tokens[token] + 1]
            equal = first < last and at + last - first <= end
            if equal:
                for k in range(last - first):
                    equal &= bool(data[at + k] == token_bytes[first + k])
            at += last - first
            token += 1
        result[i] = equal and at == end


class WordCacheEncoder:
    """Encodes texts word by word and remembers the ids of every word."""

    def __init__(
        self,
        tokenizer_json: bytes,
        rule: PretokenizerRule,
        eos_id: int,
        dtype: np.dtype[np.integer],
    ) -> None:
        """Start with an empty cache, for a byte-level BPE that splits text by ``rule``."""
        self._rule, self._eos_id, self._dtype = rule, eos_id, dtype
        data = json.loads(tokenizer_json)
        # Texts arrive normalized, and single words need no pre-tokenization.
        bare = {**data, "normalizer": None, "padding": None, "truncation": None}
        bare["pre_tokenizer"] = {
            "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False
        }  # fmt: skip
        self._tokenizer = Tokenizer.from_str(json.dumps(bare))
        self._tokenizer.encode_special_tokens = True
        token_bytes = [b""] * (1 + max(self._tokenizer.get_vocab().values()))
        if data["decoder"] and data["decoder"]["type"] == "ByteLevel":
            for token, token_id in data["model"]["vocab"].items():
                token_bytes[token_id] = token_to_bytes(token) or b""
        self._token_bytes = np.frombuffer(b"".join(token_bytes), np.uint8)
        self._token_bounds = np.cumsum([0, *map(len, token_bytes)], dtype=np.int64)
        self._clear_cache()

    def _clear_cache(self) -> None:
        self._words = WordTable(self._rule)
        self._ids = np.zeros(1 << 16, np.int32)
        self._starts = np.zeros(1 << 16, np.int64)
        self._unencodable = np.zeros(1 << 16, np.bool_)
        self._any_unencodable = False
        self._n_encoded = 0

    def encode(self, offsets: Offsets, data: Bytes) -> tuple[Tokens, Offsets, npt.NDArray[np.intp]]:
        """Encode normalized texts, each followed by ``eos_id``.

        Returns:
            The tokens; int64[n], how many each text has; and the rows, ascending, of texts with a
            word that `tokenizers` cannot encode. The tokens of these lack that word.
        """
        if self._words.total_bytes > MAX_CACHE_BYTES:
            self._clear_cache()
        lengths = np.zeros(len(offsets) - 1, np.int64)
        failed = np.zeros(len(offsets) - 1, np.bool_)
        at = np.zeros(2, np.int64)
        pieces = [np.zeros(0, self._dtype)]
        for read in self._words.iter_word_ids(offsets, data):
            self._encode_new_words()
            if self._any_unencodable:
                _flag_texts(read, self._unencodable, int(at[0]), failed)
            piece = np.empty(_count_tokens(read, self._starts), self._dtype)
            _write_tokens(read, self._starts, self._ids, self._eos_id, piece, lengths, at)
            pieces.append(piece)
        return np.concatenate(pieces), lengths, np.flatnonzero(failed)

    def _encode_new_words(self) -> None:
        """Encode the words that were added to the table."""
        while self._n_encoded < len(self._words):
            words = self._words.column(self._n_encoded, self._n_encoded + ENCODE_BATCH).to_pylist()
            encoded = self._encode_words(words)
            ids = [word_ids or [] for word_ids in encoded]
            ends = np.cumsum([len(word_ids) for word_ids in ids]) + self._starts[self._n_encoded]
            used, last = int(self._starts[self._n_encoded]), self._n_encoded + len(words)
            self._ids = grow_array(self._ids, int(ends[-1]))
            self._starts = grow_array(self._starts, last + 1)
            self._unencodable = grow_array(self._unencodable, last)
            self._ids[used : ends[-1]] = np.fromiter(chain.from_iterable(ids), np.int32)
            self._starts[self._n_encoded + 1 : last + 1] = ends
            self._unencodable[self._n_encoded : last] = [word_ids is None for word_ids in encoded]
            self._any_unencodable |= None in encoded
            self._n_encoded = last

    def _encode_words(self, words: list[str]) -> list[list[int] | None]:
        """Return the ids of each word, ``None`` if it cannot be encoded."""
        try:
            encodings = self._tokenizer.encode_batch_fast(words, add_special_tokens=False)
        except Exception as error:
            if type(error) is not Exception:  # `tokenizers` raises bare Exception
                raise
            if len(words) == 1:
                return [None]
            half = len(words) // 2
            return self._encode_words(words[:half]) + self._encode_words(words[half:])
        return [encoding.ids for encoding in encodings]

    def roundtrips(
        self, offsets: Offsets, data: Bytes, tokens: Tokens, starts: Offsets,
        rows: npt.NDArray[np.intp],
    ) -> Bools:  # fmt: skip
        """Return for each of some rows whether its tokens stand for exactly the bytes of its text.

        Args:
            offsets: int64[n + 1] of the texts.
            data: uint8[...] UTF-8.
            tokens: the ids of all texts, each text followed by ``eos_id``.
            starts: int64[n], index of each text's first token.
            rows: int64[m], texts to compare.
        """
        result = np.zeros(len(rows), np.bool_)
        vocabulary = (self._eos_id, self._token_bounds, self._token_bytes)
        _compare_bytes(offsets, data, tokens, starts, rows, *vocabulary, result)
        return result
