"""Train a byte-level BPE on word counts.

The resulting file equals the one that the trainer of Hugging Face `tokenizers` writes for the same
text, and depends on the counts alone. Ids are assigned in a fixed order: special tokens, bytes,
merges.
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from infra.formats.arrow_text import Bytes, Offsets, utf8_buffers
from infra.formats.byte_level import ALPHABET, BYTE_BY_CHAR, token_to_bytes
from tasks.tokenize.merges import train_merges
from tasks.tokenize.pretokenizer import Normalization, PretokenizerRule, empty_bpe
from tasks.tokenize.word_table import count_word_frequencies

MIN_FREQUENCY = 2  # a pair that occurs once is unlikely to occur in other text


def normalize_texts(texts: "pa.Array | pa.ChunkedArray", normalization: Normalization) -> pa.Array:
    """Return the texts in the given Unicode normal form: ``large_string``."""
    column = texts.cast(pa.large_string())
    if normalization == "none":
        return column
    normalizer = empty_bpe(PretokenizerRule(), normalization).normalizer
    assert normalizer is not None
    return apply_normalizer(column, normalizer)


def apply_normalizer(column: "pa.Array", normalizer: normalizers.Normalizer) -> pa.Array:
    """Return normalized texts: ``large_string``; ASCII text, which no normal form changes, is kept."""
    return pa.array(
        [
            text if text.isascii() else normalizer.normalize_str(text)
            for text in (text or "" for text in column.to_pylist())
        ],
        pa.large_string(),
    )


def train_bpe(
    words: tuple[Offsets, Bytes],
    counts: Offsets,
    *,
    vocab_size: int,
    special_tokens: Sequence[str],
    rule: PretokenizerRule,
    normalization: Normalization = "none",
) -> bytes:
    """Train a tokenizer; return the bytes of its ``tokenizer.json``.

    Args:
        words: distinct words: int64[n + 1] offsets and uint8[...] UTF-8.
        counts: int64[n], how often each word occurs.
        vocab_size: maximum number of ids.
        special_tokens: they get the first ids; the first one ends a document.
        rule: by which the words were split.
        normalization: of the text before.
    """
    # As in `tokenizers`: a merge that spells a special token gets that token's id. The byte 0xFF,
    # which UTF-8 never has, keeps other special tokens apart from all merges.
    first = [token_to_bytes(special) or special.encode() + b"\xff" for special in special_tokens]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    start = [*first, *(bytes([BYTE_BY_CHAR[char]]) for char in alphabet)]
    tokens, merges = train_merges(
        words, counts, start, vocab_size=vocab_size, min_frequency=MIN_FREQUENCY
    )
    entries = [
        *special_tokens,
        *("".join(ALPHABET[byte] for byte in token) for token in tokens[len(first) :]),
    ]
    tokenizer = empty_bpe(rule, normalization)
    tokenizer.model = models.BPE(
        vocab={token: number for number, token in enumerate(entries)},
        merges=[(entries[one], entries[other]) for one, other in merges],
    )
    tokenizer.add_special_tokens([AddedToken(special, special=True) for special in special_tokens])
    return tokenizer.to_str(pretty=True).encode()


def train_bpe_from_texts(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str],
    rule: PretokenizerRule | None = None,
    normalization: Normalization = "none",
) -> bytes:
    """Train a tokenizer on texts; see ``train_bpe``."""
    rule = rule or PretokenizerRule()
    column = normalize_texts(pa.array(texts, pa.large_string()), normalization)
    counted = count_word_frequencies(rule, *utf8_buffers(column))
    return train_bpe(
        utf8_buffers(counted["word"]),
        counted["count"].to_numpy(),
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        rule=rule,
        normalization=normalization,
    )
