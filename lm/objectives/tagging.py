"""Predict the tag of each word of a sentence; the first token of a word carries its tag.

A row is ``[ids | tags]``, both of the row's maximum length: ids are padded on the right, and a tag below zero
is not predicted. A predicate, whose roles are asked for, stands between ends of text::

    <end> the crow <end> saw <end> the mill <end>
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch

from lm.objectives.examples import Examples, Rows
from lm.objectives.text_rows import PADDING, TextEncoder, pad_rows, trim


@dataclass(frozen=True)
class Tagging:
    """The model reads a sentence and predicts a tag at the first token of each word."""

    def __call__(self, rows: Rows, samples: Rows) -> Examples:  # noqa: ARG002 - nothing is drawn
        """See ``Objective``; the layout of rows is the module's."""
        width = rows.shape[1] // 2
        ids = trim(rows[:, :width])
        tags = rows[:, width : width + ids.shape[1]]
        return Examples(
            torch.from_numpy(np.ascontiguousarray(ids)),
            torch.from_numpy(np.ascontiguousarray(tags)),
            torch.from_numpy((ids >= 0).sum(1)),
        )


@dataclass(frozen=True)
class EncodedWords:
    """Sentences as rows of ids.

    Attributes:
        rows: int64[n, max_length], padded on the right.
        first_tokens: for each sentence the position of each word's first token; -1 if it was cut off, or if
            the tokenizer has no token that begins with the word.
    """

    rows: Rows
    first_tokens: list[list[int]]


def encode_words(
    encoder: TextEncoder,
    sentences: Sequence[Sequence[str]],
    predicates: Sequence[int | None],
    max_length: int,
) -> EncodedWords:
    """Encode sentences, their words divided by spaces; the end of longer ones is cut.

    Args:
        encoder: of the base.
        sentences: their words.
        predicates: the number of the word whose roles are asked for; ``None``: of none.
        max_length: of a row.
    """
    room = max_length - (2 if encoder.ends_text else 1)
    ids, first_tokens = [], []
    for words, predicate in zip(sentences, predicates, strict=True):
        text = " ".join(words)
        starts = [0, *accumulate(len(word) + 1 for word in words)][: len(words)]
        own: list[int] = []
        first = [PADDING] * len(words)
        is_marked = False
        for token, (start, end) in encoder.encode_plain(text):
            at = next((at for at in range(start, len(text)) if text[at] != " "), len(text) - 1)
            word = bisect_right(starts, at) - 1  # a space is part of the word that follows
            if is_marked != (word == predicate):
                own.append(encoder.eos_id)
                is_marked = not is_marked
            if at < end and first[word] == PADDING:
                first[word] = len(own) + 1
            own.append(token)
        if is_marked:
            own.append(encoder.eos_id)
        ids.append([encoder.eos_id, *own[:room], *([encoder.eos_id] if encoder.ends_text else [])])
        first_tokens.append([at if at <= room else PADDING for at in first])
    return EncodedWords(pad_rows(ids, max_length), first_tokens)


def encode(words: EncodedWords, tags: Sequence[Sequence[str]], names: Sequence[str]) -> Rows:
    """Return the rows of sentences and their tags.

    Raises:
        KeyError: if a tag is not one of the names.
    """
    numbers = {name: number for number, name in enumerate(names)}
    targets = np.full_like(words.rows, PADDING)
    for row, own, first in zip(targets, tags, words.first_tokens, strict=True):
        for tag, at in zip(own, first, strict=True):
            if at != PADDING:
                row[at] = numbers[tag]
    return np.hstack([words.rows, targets])
