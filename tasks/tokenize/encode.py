"""Text to token ids with a given tokenizer, in bounded memory, and back."""

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
from tasks.tokenize.pretokenizer import detect_pretokenizer
from tasks.tokenize.word_cache_encoder import WordCacheEncoder

# An encoding takes some hundred bytes per token while it is made, so a book is encoded in pieces.
CHUNK_CHARACTERS = 1 << 19  # characters
BATCH_CHARACTERS = 1 << 20  # characters per call

# Every style cuts here whatever lies around: a lone space between letters opens the next word.
_SAFE_SPLIT = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")


class InvalidTokenizerError(UserError):
    """A tokenizer that cannot be used, with the reason."""


def split_long_text(text: str, size: int = CHUNK_CHARACTERS) -> Iterator[str]:
    """Pieces of a long text, cut where a byte-level BPE cuts anyway.

    A text without such a place within ``size`` characters (one endless word) is cut there
    all the same: its tokens may then differ from those of the whole, its bytes do not.
    """
    start = 0
    while len(text) - start > 2 * size:
        seam = _SAFE_SPLIT.search(text, start + size, start + 2 * size)
        end = seam.start() if seam else start + 2 * size
        yield text[start:end]
        start = end
    yield text[start:]


@dataclass(frozen=True)
class EncodedTexts:
    """The tokens of some texts.

    Attributes:
        tokens: dtype[n] of all texts, one after the other, each closed by ``eos``.
        lengths: int64[texts] tokens of each, 0 where it failed.
        errors: what went wrong, by text.
    """

    tokens: Tokens
    lengths: Offsets
    errors: Mapping[int, Exception] = field(default_factory=dict)


class Encoder:
    """A tokenizer as documents need it.

    Attributes:
        digest: SHA-256 of its ``tokenizer.json``.
        eos_id: id of the token that closes a document.
        vocab_size: ids are below this.
        dtype: type of the ids in shards.
        all_special_ids: ids of its added tokens.
    """

    def __init__(self, tokenizer_json: bytes, end_of_text: str) -> None:
        """Load a tokenizer.

        Raises:
            BadTokenizer: if the bytes are no tokenizer, or it lacks ``end_of_text``.
        """
        try:
            # `tokenizers` raises bare Exception.
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:
            raise InvalidTokenizerError(f"not a tokenizer.json: {error}") from error
        self._json = tokenizer_json
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # A document that quotes "<|endoftext|>" must not end there.
        self._tokenizer.encode_special_tokens = True
        eos = self._tokenizer.token_to_id(end_of_text)
        added = self._tokenizer.get_added_tokens_decoder()
        if eos is None:
            known = [str(token) for token in added.values()]
            raise InvalidTokenizerError(
                f"the tokenizer has no token {end_of_text!r} (tokenize.end_of_text); "
                f"its special tokens: {', '.join(known) or 'none'}"
            )
        self.digest = bytes_sha256(tokenizer_json)
        self.eos_id = int(eos)
        self.all_special_ids = sorted(added)
        self.vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.dtype = token_dtype(self.vocab_size)

    @cached_property
    def byte_level(self) -> bool:
        """Whether it works on bytes: exact for any text, and free of effects across words."""
        return _contains_type(json.loads(self._json).get("pre_tokenizer"), "ByteLevel")

    @cached_property
    def word_cache(self) -> WordCacheEncoder | None:
        """The fast way, if the tokenizer cuts text by a rule that is known here."""
        rule = detect_pretokenizer(self._json)
        return (
            WordCacheEncoder(self._json, rule, self.eos_id, self.dtype)
            if rule is not None
            else None
        )

    def normalize(self, texts: "pa.Array[Any]") -> "pa.Array[Any]":
        """The texts in the normal form that the tokenizer puts them in, if that is all it does."""
        normalizer = self._tokenizer.normalizer
        if json.loads(self._json)["normalizer"] != {"type": "NFC"} or normalizer is None:
            return texts
        plain = texts.to_pylist()
        done = [text if text.isascii() else normalizer.normalize_str(text) for text in plain]
        return pa.array(done, pa.large_string())

    def encode_column(self, texts: "pa.Array[Any]") -> EncodedTexts:
        """The ids of each text, ``eos_id`` last.

        Args:
            texts: ``large_string`` without nulls, as ``normalize`` returns them.
        """
        if self.word_cache is None:
            results = self.encode(texts.to_pylist())
        else:
            tokens, lengths, odd = self.word_cache.encode(*utf8_buffers(texts))
            if not len(odd):
                return EncodedTexts(tokens, lengths)
            # What is wrong with them is for `tokenizers` to say.
            results = [*np.split(tokens, np.cumsum(lengths)[:-1])]
            again = self.encode(texts.take(pa.array(odd)).to_pylist())
            for row, ids in zip(odd.tolist(), again, strict=True):
                results[row] = ids
        errors = {row: ids for row, ids in enumerate(results) if isinstance(ids, Exception)}
        empty = np.zeros(0, self.dtype)
        arrays = [empty if isinstance(ids, Exception) else ids for ids in results]
        lengths = np.array([len(ids) for ids in arrays], np.int64)
        return EncodedTexts(np.concatenate([empty, *arrays]), lengths, errors)

    def encode(self, texts: Sequence[str]) -> list[Tokens | Exception]:
        """The same by `tokenizers` alone; or what went wrong with a text.

        Returns:
            For each text an array of ``dtype``, one longer than the text has tokens.
        """
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
        if max(counts, default=0) > 1:
            return [self._encode_long(group) for group in pieces]
        encodings = self._tokenizer.encode_batch_fast(
            [piece for group in pieces for piece in group], add_special_tokens=False
        )
        return [self._append_eos([encoding.ids]) for encoding in encodings]

    def _encode_long(self, pieces: list[str]) -> Tokens:
        return self._append_eos(
            [
                self._tokenizer.encode_batch_fast([piece], add_special_tokens=False)[0].ids
                for piece in pieces
            ]
        )

    def _append_eos(self, runs: Sequence[Sequence[int]]) -> Tokens:
        ids = np.empty(sum(map(len, runs)) + 1, self.dtype)
        at = 0
        for run in runs:
            ids[at : at + len(run)] = run
            at += len(run)
        ids[at] = self.eos_id
        return ids

    def decode(self, ids: Tokens) -> str:
        """The text of some tokens, a closing ``eos_id`` left out; broken characters become U+FFFD."""
        plain = ids[:-1] if len(ids) and ids[-1] == self.eos_id else ids
        return str(self._tokenizer.decode(plain.tolist(), skip_special_tokens=False))

    def roundtrips(
        self, texts: "pa.Array[Any]", encoded: EncodedTexts, rows: npt.NDArray[np.intp]
    ) -> list[bool]:
        """Whether the tokens of some texts decode to these texts, character for character."""
        starts = np.cumsum(encoded.lengths) - encoded.lengths
        sure = np.zeros(len(rows), np.bool_)
        if self.word_cache is not None:
            sure = self.word_cache.roundtrips(*utf8_buffers(texts), encoded.tokens, starts, rows)
        return [
            bool(known)
            or self.decode(encoded.tokens[starts[row] : starts[row] + encoded.lengths[row]])
            == texts[row].as_py()
            for row, known in zip(rows.tolist(), sure, strict=True)
        ]

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """The text of single tokens, or their name where they are no text."""
        return [self.decode(np.array([one], self.dtype)) for one in ids]


def _contains_type(node: Any, kind: str) -> bool:
    if isinstance(node, dict):
        return node.get("type") == kind or any(_contains_type(item, kind) for item in node.values())
    return isinstance(node, list) and any(_contains_type(item, kind) for item in node)
