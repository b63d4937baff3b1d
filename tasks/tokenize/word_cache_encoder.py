"""Encoding by looking words up: each different word is encoded once, by `tokenizers` itself.

Merges stay inside words, so a text's ids are those of its words in a row. Nearly all words of a
text have been met before; cutting it and looking them up is many times faster than encoding it.
"""

import json
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets
from infra.formats.megatron import Tokens
from tasks.tokenize.bpe import token_to_bytes
from tasks.tokenize.pretokenizer import PretokenizerRule
from tasks.tokenize.word_table import END_OF_TEXT, WordIds, WordTable

Flags = npt.NDArray[np.bool_]

MAX_CACHE_BYTES = 1 << 28  # of words; then they are forgotten, which costs time and changes nothing
ENCODE_BATCH = 1 << 16  # words that are encoded at once


@jit
def _count_tokens(read: WordIds, starts: Offsets) -> int:
    """Tokens of some words, ends of texts included."""
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
    """Write the tokens of some words; ``at``: the text, and how many of its tokens came before."""
    to, document, since = 0, at[0], -at[1]
    for word in read:
        if word == END_OF_TEXT:
            tokens[to] = eos_id
            to += 1
            lengths[document] = to - since
            document, since = document + 1, to
        else:
            for i in range(starts[word], starts[word + 1]):
                tokens[to] = ids[i]
                to += 1
    at[0], at[1] = document, to - since


@jit
def _flag_texts(read: WordIds, unencodable: Flags, first: int, result: Flags) -> None:
    """Find the texts, from text ``first`` on, that hold an odd word."""
    document = first
    for word in read:
        if word == END_OF_TEXT:
            document += 1
        elif unencodable[word]:
            result[document] = True


@jit
def _compare_bytes(
    offsets: Offsets, data: Bytes, tokens: Tokens, starts: Offsets, rows: npt.NDArray[np.intp],
    eos_id: int, bounds: Offsets, token_bytes: Bytes, result: Flags,
) -> None:  # fmt: skip
    """Whether the bytes of the tokens are those of the text, for some texts."""
    for i in range(len(rows)):
        at, end = offsets[rows[i]], offsets[rows[i] + 1]
        token = starts[rows[i]]
        same = True
        while same and tokens[token] != eos_id:
            first, last = bounds[tokens[token]], bounds[tokens[token] + 1]
            same = first < last and at + last - first <= end
            if same:
                for k in range(last - first):
                    same &= bool(data[at + k] == token_bytes[first + k])
            at += last - first
            token += 1
        result[i] = same and at == end


class WordCacheEncoder:
    """The ids of every word met so far."""

    def __init__(
        self,
        tokenizer_json: bytes,
        rule: PretokenizerRule,
        eos_id: int,
        dtype: np.dtype[np.integer],
    ) -> None:
        """Nothing was met yet.

        Args:
            tokenizer_json: a byte-level BPE that cuts by ``rule``.
            rule: see ``rule.recognise``.
            eos_id: id that closes a text.
            dtype: of ids.
        """
        self._rule, self._eos_id, self._dtype = rule, eos_id, dtype
        data = json.loads(tokenizer_json)
        # Text is normalised before it is cut, and words are cut already.
        bare = {**data, "normalizer": None, "padding": None, "truncation": None}
        bare["pre_tokenizer"] = {
            "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False
        }  # fmt: skip
        self._tokenizer = Tokenizer.from_str(json.dumps(bare))
        self._tokenizer.encode_special_tokens = True
        spelling = [b""] * (1 + max(self._tokenizer.get_vocab().values()))
        if data["decoder"] and data["decoder"]["type"] == "ByteLevel":
            for token, number in data["model"]["vocab"].items():
                spelling[number] = token_to_bytes(token) or b""
        self._token_bytes = np.frombuffer(b"".join(spelling), np.uint8)
        self._token_bounds = np.cumsum([0, *map(len, spelling)], dtype=np.int64)
        self._clear_cache()

    def _clear_cache(self) -> None:
        self._words = WordTable(self._rule)
        self._ids = np.zeros(1 << 16, np.int32)
        self._starts = np.zeros(1 << 16, np.int64)
        self._unencodable = np.zeros(1 << 16, np.bool_)
        self._any_unencodable = False
        self._n_encoded = 0

    def encode(self, offsets: Offsets, data: Bytes) -> tuple[Tokens, Offsets, npt.NDArray[np.intp]]:
        """The tokens of some texts, each closed by ``eos``.

        Args:
            offsets: int64[n + 1]; text i is ``data[offsets[i]:offsets[i + 1]]``.
            data: uint8[...] UTF-8, normalised.

        Returns:
            The tokens; int64[n], how many each text has; and the texts that hold a word which
            `tokenizers` cannot encode, ascending: what stands for them lacks that word.
        """
        if self._words.total_bytes > MAX_CACHE_BYTES:
            self._clear_cache()
        lengths = np.zeros(len(offsets) - 1, np.int64)
        odd = np.zeros(len(offsets) - 1, np.bool_)
        at = np.zeros(2, np.int64)
        pieces = [np.zeros(0, self._dtype)]
        for read in self._words.iter_word_ids(offsets, data):
            self._encode_new_words()
            if self._any_unencodable:
                _flag_texts(read, self._unencodable, int(at[0]), odd)
            piece = np.empty(_count_tokens(read, self._starts), self._dtype)
            _write_tokens(read, self._starts, self._ids, self._eos_id, piece, lengths, at)
            pieces.append(piece)
        return np.concatenate(pieces), lengths, np.flatnonzero(odd)

    def _encode_new_words(self) -> None:
        """Encode the words that are new."""
        while self._n_encoded < len(self._words):
            words = self._words.column(self._n_encoded, self._n_encoded + ENCODE_BATCH).to_pylist()
            found = self._encode_words(words)
            ids = [own or [] for own in found]
            sizes = np.cumsum([len(own) for own in ids]) + self._starts[self._n_encoded]
            used, last = int(self._starts[self._n_encoded]), self._n_encoded + len(words)
            self._ids = _grow(self._ids, int(sizes[-1]))
            self._starts = _grow(self._starts, last + 1)
            self._unencodable = _grow(self._unencodable, last)
            self._ids[used : sizes[-1]] = np.fromiter(chain.from_iterable(ids), np.int32)
            self._starts[self._n_encoded + 1 : last + 1] = sizes
            self._unencodable[self._n_encoded : last] = [own is None for own in found]
            self._any_unencodable |= None in found
            self._n_encoded = last

    def _encode_words(self, words: list[str]) -> list[list[int] | None]:
        """The ids of each word, ``None`` where it cannot be encoded."""
        try:
            encodings = self._tokenizer.encode_batch_fast(words, add_special_tokens=False)
        except Exception as error:
            if type(error) is not Exception:  # `tokenizers` raises that and no other
                raise
            if len(words) == 1:
                return [None]
            half = len(words) // 2
            return self._encode_words(words[:half]) + self._encode_words(words[half:])
        return [encoding.ids for encoding in encodings]

    def roundtrips(
        self, offsets: Offsets, data: Bytes, tokens: Tokens, starts: Offsets,
        rows: npt.NDArray[np.intp],
    ) -> Flags:  # fmt: skip
        """Whether the bytes that the tokens stand for are those of the text.

        Args:
            offsets: int64[n + 1] of the texts.
            data: uint8[...] UTF-8.
            tokens: of all texts, each closed by ``eos``.
            starts: int64[n] first token of each.
            rows: int64[m] texts to look at.

        Returns:
            bool[m]; False also where a token is no text.
        """
        result = np.zeros(len(rows), np.bool_)
        _compare_bytes(
            offsets,
            data,
            tokens,
            starts,
            rows,
            self._eos_id,
            self._token_bounds,
            self._token_bytes,
            result,
        )
        return result


def _grow(array: npt.NDArray[Any], min_length: int) -> npt.NDArray[Any]:
    if min_length <= len(array):
        return array
    return np.concatenate(
        [array, np.zeros(max(min_length, 2 * len(array)) - len(array), array.dtype)]
    )
