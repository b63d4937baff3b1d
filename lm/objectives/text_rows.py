"""Rows of ids of fixed width, made of the texts of a task's examples.

A text is read as ``<end> text <end>`` by encoders, whose pooled state is at the first token, and as
``<end> text`` by all other models, as documents began in pre-training; a pair has an end of text between the
two. The exported tokenizer adds the same tokens by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.errors import UserError
from lm.objectives.examples import Rows

PADDING = -1
LENGTH_MULTIPLE = 8  # lengths of batches are multiples of it: fewer shapes to compile


@dataclass(frozen=True)
class EncodedTexts:
    """Texts as rows of ids.

    Attributes:
        rows: int64[n, max_length], padded on the right.
        is_truncated: for each text, whether it was longer.
    """

    rows: Rows
    is_truncated: list[bool]


class TextEncoder:
    """Encodes texts with the tokenizer of the base and the tokens that stand around a text."""

    def __init__(self, tokenizer: bytes, eos_id: int, *, ends_text: bool) -> None:
        """Parse ``tokenizer.json``; ``ends_text``: whether an end of text follows the text, too."""
        from tokenizers import Tokenizer

        self.eos_id, self.ends_text = eos_id, ends_text
        self.tokenizer: Any = Tokenizer.from_str(tokenizer.decode())
        self.tokenizer.post_processor = text_template(self.tokenizer, eos_id, ends_text=ends_text)
        self.tokenizer.encode_special_tokens = True  # a text that reads like one is text

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str | None], max_length: int
    ) -> EncodedTexts:
        """Encode texts, or pairs of texts; of a longer one its end is cut, of a pair the longer one's.

        Raises:
            UserError: if not even the tokens around the texts fit.
        """
        if max_length < 4:
            raise UserError(f"max_length is {max_length}; it must be at least 4")
        self.tokenizer.enable_truncation(max_length, strategy="longest_first")
        inputs = [
            text if pair is None else (text, pair) for text, pair in zip(texts, pairs, strict=True)
        ]
        encodings = self.tokenizer.encode_batch(inputs)
        return EncodedTexts(
            pad_rows([encoding.ids for encoding in encodings], max_length),
            [bool(encoding.overflowing) for encoding in encodings],
        )

    def encode_plain(self, text: str) -> list[tuple[int, tuple[int, int]]]:
        """Return the ids of a text alone, each with the half-open range of its characters."""
        self.tokenizer.no_truncation()
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return list(zip(encoding.ids, encoding.offsets, strict=True))


def text_template(tokenizer: Any, eos_id: int, *, ends_text: bool) -> Any:
    """Return the post-processor of ``tokenizers`` that adds the ends of text."""
    from tokenizers.processors import TemplateProcessing

    name = tokenizer.id_to_token(eos_id)
    end = [f"{name}:0"] if ends_text else []
    return TemplateProcessing(
        single=[f"{name}:0", "$A:0", *end],
        pair=[f"{name}:0", "$A:0", f"{name}:0", "$B:0", *end],
        special_tokens=[(name, eos_id)],
    )


def pad_rows(ids: Sequence[Sequence[int]], width: int) -> Rows:
    """Return lists of ids as rows, int64[n, width], padded on the right."""
    rows = np.full((len(ids), width), PADDING, np.int64)
    for row, own in zip(rows, ids, strict=True):
        row[: len(own)] = own
    return rows


def trim(rows: Rows) -> Rows:
    """Return rows without the columns in which all are padded, rounded up to a multiple of 8."""
    used = np.flatnonzero((rows >= 0).any(0))
    length = int(used[-1]) + 1 if len(used) else 1
    return rows[:, : round_length(length)]


def round_length(length: int) -> int:
    """Return a length rounded up to a multiple of 8."""
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
