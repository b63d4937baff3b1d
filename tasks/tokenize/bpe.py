"""Training a byte-level BPE on how often each word occurs.

The result is the file that the trainer of Hugging Face `tokenizers` makes of the same text, and
depends on nothing but the counts. Ids are given out in a fixed order: first the special tokens,
then bytes, then merges.
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa
from tokenizers import AddedToken, models, pre_tokenizers

from infra.formats.arrow_text import Bytes, Offsets, utf8_buffers
from tasks.tokenize.merges import train_merges
from tasks.tokenize.pretokenizer import Normalization, PretokenizerRule, empty_bpe
from tasks.tokenize.word_table import count_word_frequencies

MIN_FREQUENCY = 2  # a pair seen once says nothing about other text


def _alphabet() -> list[str]:
    """The character that stands for each byte in a vocabulary (Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


ALPHABET = _alphabet()
_BYTE_BY_CHAR = {char: byte for byte, char in enumerate(ALPHABET)}


def token_to_bytes(token: str) -> bytes | None:
    """The bytes that a byte-level vocabulary's entry stands for; ``None`` for other entries."""
    try:
        return bytes([_BYTE_BY_CHAR[char] for char in token])
    except KeyError:
        return None


def normalize_texts(texts: "pa.Array | pa.ChunkedArray", normalization: Normalization) -> pa.Array:
    """The texts as the tokenizer's normaliser leaves them: ``large_string``."""
    column = texts.cast(pa.large_string())
    if normalization == "none":
        return column
    normalizer = empty_bpe(PretokenizerRule(), normalization).normalizer
    assert normalizer is not None
    plain = [text or "" for text in column.to_pylist()]
    return pa.array(
        [text if text.isascii() else normalizer.normalize_str(text) for text in plain],
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
    """A trained tokenizer as the bytes of its ``tokenizer.json``.

    Args:
        words: different words: int64[n + 1] offsets and uint8[...].
        counts: int64[n] how often each occurs.
        vocab_size: ids at most.
        special_tokens: special tokens, which get the first ids; the first closes a document.
        rule: what cut the words.
        normalization: what was done to text before.
    """
    # A special token made of printable bytes is that string for the merges too.
    first = [token_to_bytes(special) or special.encode() + b"\xff" for special in special_tokens]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    start = [*first, *(bytes([_BYTE_BY_CHAR[char]]) for char in alphabet)]
    tokens, merges = train_merges(
        words, counts, start, vocab_size=vocab_size, min_frequency=MIN_FREQUENCY
    )
    shown = [
        *special_tokens,
        *("".join(ALPHABET[byte] for byte in t) for t in tokens[len(first) :]),
    ]
    tokenizer = empty_bpe(rule, normalization)
    tokenizer.model = models.BPE(
        vocab={token: number for number, token in enumerate(shown)},
        merges=[(shown[one], shown[other]) for one, other in merges],
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
    """A tokenizer trained on some texts; see ``train_bpe``."""
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
