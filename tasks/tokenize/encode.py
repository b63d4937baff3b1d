"""Encode text with a given tokenizer in bounded memory, and decode it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from infra.dataset.fingerprint import bytes_sha256
from infra.errors import UserError
from infra.formats.arrow_text import Offsets, utf8_buffers
from infra.formats.megatron import Tokens, token_dtype
from tasks.tokenize.bpe import apply_normalizer
from tasks.tokenize.pretokenizer import detect_pretokenizer
from tasks.tokenize.word_cache_encoder import WordCacheEncoder

# `tokenizers` takes about a hundred bytes per token while it encodes, so a book is encoded in pieces.
CHUNK_CHARACTERS = 1 << 19  # characters per piece
BATCH_CHARACTERS = 1 << 20  # characters per call

# Every pretokenizer splits here: a single space between letters begins the next word.
_SAFE_SPLIT = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")


class InvalidTokenizerError(UserError):
    """A tokenizer cannot be used; the message says why."""


def split_long_text(text: str, size: int = CHUNK_CHARACTERS) -> Iterator[str]:
    """Split a long text between words, so that the pieces encode to the tokens of the whole.

    Where no word boundary is found within ``size`` characters (an unbroken run of letters), the text
    is split anyway: its tokens may then differ from those of the whole, its bytes do not.
    """
    start = 0
    while len(text) - start > 2 * size:
        match = _SAFE_SPLIT.search(text, start + size, start + 2 * size)
        end = match.start() if match else start + 2 * size
        yield text[start:end]
        start = end
    yield text[start:]


@dataclass(frozen=True)
class EncodedTexts:
    """The tokens of a batch of texts.

    Attributes:
        tokens: dtype[n], the ids of all texts in order, each text followed by the end-of-text id.
        lengths: int64[texts], tokens of each text, 0 where encoding failed.
        errors: the exception of each text that could not be encoded, by row.
    """

    tokens: Tokens
    lengths: Offsets
    errors: Mapping[int, Exception] = field(default_factory=dict)


class Encoder:
    """A tokenizer with an end-of-text token, for encoding documents.

    Attributes:
        digest: SHA-256 of its ``tokenizer.json``.
        eos_id: id of the token that ends a document.
        vocab_size: largest id plus one.
        dtype: integer type of the ids in shards.
        all_special_ids: ids of its added tokens.
    """

    def __init__(self, tokenizer_json: bytes, end_of_text: str) -> None:
        """Load a tokenizer.

        Raises:
            InvalidTokenizerError: if the bytes are not a tokenizer, or it lacks ``end_of_text``.
        """
        try:
            # `tokenizers` raises bare Exception.
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:
            raise InvalidTokenizerError(f"not a tokenizer.json: {error}") from error
        self._json = tokenizer_json
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # Text that reads "<|endoftext|>" is encoded as text and does not end the document.
        self._tokenizer.encode_special_tokens = True
        eos = self._tokenizer.token_to_id(end_of_text)
        added = self._tokenizer.get_added_tokens_decoder()
        if eos is None:
            names = [str(token) for token in added.values()]
            raise InvalidTokenizerError(
                f"the tokenizer has no token {end_of_text!r} (tokenize.end_of_text); "
                f"its special tokens: {', '.join(names) or 'none'}"
            )
        self.digest = bytes_sha256(tokenizer_json)
        self.eos_id = int(eos)
        self.all_special_ids = sorted(added)
        self.vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.dtype = token_dtype(self.vocab_size)

    @cached_property
    def byte_level(self) -> bool:
        """Whether the tokenizer works on bytes: it can encode any text, word by word."""
        return _contains_type(json.loads(self._json).get("pre_tokenizer"), "ByteLevel")

    @cached_property
    def word_cache(self) -> WordCacheEncoder | None:
        """The fast encoder, or ``None`` if the tokenizer's pre-tokenization rule is not supported."""
        rule = detect_pretokenizer(self._json)
        if rule is None:
            return None
        return WordCacheEncoder(self._json, rule, self.eos_id, self.dtype)

    def normalize(self, texts: "pa.Array[Any]") -> "pa.Array[Any]":
        """Return the texts in the tokenizer's Unicode normal form; unchanged if its normalizer is not NFC."""
        normalizer = self._tokenizer.normalizer
        if json.loads(self._json)["normalizer"] != {"type": "NFC"} or normalizer is None:
            return texts
        return apply_normalizer(texts, normalizer)

    def encode_column(self, texts: "pa.Array[Any]") -> EncodedTexts:
        """Encode texts (as ``normalize`` returns them), each followed by ``eos_id``."""
        if self.word_cache is None:
            results = self.encode(texts.to_pylist())
        else:
            tokens, lengths, failed = self.word_cache.encode(*utf8_buffers(texts))
            if not len(failed):
                return EncodedTexts(tokens, lengths)
            # Encode these texts again with `tokenizers` alone, for its error message.
            results = [*np.split(tokens, np.cumsum(lengths)[:-1])]
            again = self.encode(texts.take(pa.array(failed)).to_pylist())
            for row, ids in zip(failed.tolist(), again, strict=True):
                results[row] = ids
        errors = {row: ids for row, ids in enumerate(results) if isinstance(ids, Exception)}
        empty = np.zeros(0, self.dtype)
        arrays = [empty if isinstance(ids, Exception) else ids for ids in results]
        lengths = np.array([len(ids) for ids in arrays], np.int64)
        return EncodedTexts(np.concatenate([empty, *arrays]), lengths, errors)

    def encode(self, texts: Sequence[str]) -> list[Tokens | Exception]:
        """Encode texts by `tokenizers` alone: for each its ids and ``eos_id``, or the exception."""
        results: list[Tokens | Exception] = []
        batch: list[str] = []
        size = 0
        for text in texts:
            if batch and size + len(text) > BATCH_CHARACTERS:
                results += self._encode_batch(batch)
                batch, size = [], 0
            batch.append(text)
            size += len(text)
        return results + self._encode_batch(batch)

    def _encode_batch(self, texts: list[str]) -> list[Tokens | Exception]:
        try:
            return list(self._encode_all(texts))
        except Exception as error:  # noqa: BLE001 - `tokenizers` raises bare Exception
            if len(texts) == 1:
                return [error]
            return [result for text in texts for result in self._encode_batch([text])]

    def _encode_all(self, texts: list[str]) -> list[Tokens]:
        pieces = [list(split_long_text(text)) if self.byte_level else [text] for text in texts]
        counts = [len(group) for group in pieces]
        if max(counts, default=0) > 1:  # piece by piece, which bounds memory
            return [self._append_eos([self._encode_at_once([p])[0] for p in g]) for g in pieces]
        return [self._append_eos([ids]) for ids in self._encode_at_once([p for (p,) in pieces])]

    def _encode_at_once(self, texts: list[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _append_eos(self, runs: Sequence[Sequence[int]]) -> Tokens:
        return np.concatenate([np.array(run, self.dtype) for run in [*runs, [self.eos_id]]])

    def decode(self, ids: Tokens) -> str:
        """Decode tokens without their final ``eos_id``; incomplete characters become U+FFFD."""
        content = ids[:-1] if len(ids) and ids[-1] == self.eos_id else ids
        return str(self._tokenizer.decode(content.tolist(), skip_special_tokens=False))

    def roundtrips(
        self, texts: "pa.Array[Any]", encoded: EncodedTexts, rows: npt.NDArray[np.intp]
    ) -> list[bool]:
        """Return for each row whether its tokens decode to exactly its text."""
        starts = np.cumsum(encoded.lengths) - encoded.lengths
        exact = np.zeros(len(rows), np.bool_)
        if self.word_cache is not None:
            exact = self.word_cache.roundtrips(*utf8_buffers(texts), encoded.tokens, starts, rows)
        return [
            bool(is_exact)
            or self.decode(encoded.tokens[starts[row] : starts[row] + encoded.lengths[row]])
            == texts[row].as_py()
            for row, is_exact in zip(rows.tolist(), exact, strict=True)
        ]

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token, or its name if it is a special token."""
        return [self.decode(np.array([token], self.dtype)) for token in ids]


def _contains_type(node: Any, kind: str) -> bool:
    if isinstance(node, dict):
        return node.get("type") == kind or any(_contains_type(item, kind) for item in node.values())
    return isinstance(node, list) and any(_contains_type(item, kind) for item in node)
