"""From examples to the rows that a model is fine-tuned on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lm.models.added_tokens import assign_ids
from lm.models.heads.config import HeadConfig
from lm.objectives import (
    chat,
    classification,
    contrastive,
    fill_in_middle,
    spans,
    tagging,
    to_target,
)
from lm.objectives.examples import Rows
from lm.objectives.text_rows import TextEncoder


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as rows of ids.

    Attributes:
        rows: int64[n, W], in the layout of the task's objective.
        truncated: number of examples that were longer, whose end is not read.
        over_long: number of examples without a row: nothing of what they teach is in the length.
    """

    rows: Rows
    truncated: int = 0
    over_long: int = 0


@dataclass(frozen=True)
class Encoding:
    """How examples are encoded.

    Attributes:
        task: of the examples.
        encoder: of the base's tokenizer.
        head: of the model; ``None`` for a language model.
        max_length: of an example, in tokens.
        is_encoder_decoder: whether an encoder reads the source.
        added_tokens: ids of the tokens that the base has not.
    """

    task: str
    encoder: TextEncoder
    head: HeadConfig | None
    max_length: int
    is_encoder_decoder: bool
    added_tokens: Mapping[str, int]


def find_added_tokens(task: str, encoder: TextEncoder, vocab_size: int) -> dict[str, int]:
    """Return the tokens that a task needs and a base of this vocabulary has not, with their ids."""
    tokens: Sequence[str] = {
        "chat": chat.ADDED_TOKENS,
        "completion": fill_in_middle.ADDED_TOKENS,
    }.get(task, ())
    return assign_ids(encoder.tokenizer, tokens, vocab_size)


def encode_examples(examples: pa.Table, encoding: Encoding) -> EncodedExamples:
    """Encode the examples of a task.

    Raises:
        UserError: if the length is too short for the tokens around a text.
    """
    return ENCODERS[encoding.task](examples, encoding)


def _encode_classification(examples: pa.Table, encoding: Encoding) -> EncodedExamples:
    head = _head(encoding)
    texts = encoding.encoder.encode(
        examples["text"].to_pylist(), examples["text_pair"].to_pylist(), encoding.max_length
    )
    labels = examples["labels"].to_pylist()
    rows = classification.encode(texts, labels, head.labels, multi_label=head.multi_label)
    return EncodedExamples(rows, sum(texts.is_truncated))


def _encode_tagging(examples: pa.Table, encoding: Encoding) -> EncodedExamples:
    words = tagging.encode_words(
        encoding.encoder,
        examples["words"].to_pylist(),
        examples["predicate"].to_pylist(),
        encoding.max_length,
    )
    rows = tagging.encode(words, examples["tags"].to_pylist(), _head(encoding).labels)
    is_taught = (rows[:, encoding.max_length :] >= 0).any(1)
    cut = sum(min(own, default=0) < 0 for own in words.first_tokens)
    return EncodedExamples(rows[is_taught], cut, int((~is_taught).sum()))


def to_questions(examples: pa.Table) -> list[spans.Question]:
    """Return the questions of examples with the first of their answers."""
    questions = []
    for row in examples.to_pylist():
        first = next(iter(row["answers"]), None)
        answer = None if first is None else (first["start"], first["start"] + len(first["text"]))
        questions.append(spans.Question(row["question"], row["context"], answer))
    return questions


def _encode_qa(examples: pa.Table, encoding: Encoding) -> EncodedExamples:
    questions = to_questions(examples)
    encoded = spans.encode(encoding.encoder, questions, encoding.max_length)
    windows = np.bincount(encoded.question, minlength=len(questions))
    return EncodedExamples(encoded.rows, int((windows > 1).sum()))


def _encode_seq2seq(examples: pa.Table, encoding: Encoding) -> EncodedExamples:
    sources, targets = examples["source"].to_pylist(), examples["target"].to_pylist()
    if encoding.is_encoder_decoder:
        length = encoding.max_length
        pairs = to_target.encode(encoding.encoder, sources, targets, length, length)
        keeps = ~np.array(pairs.is_over_long, np.bool_)
        return EncodedExamples(pairs.rows[keeps], sum(pairs.is_truncated), sum(pairs.is_over_long))
    counted = to_target.encode_for_decoder(encoding.encoder, sources, targets, encoding.max_length)
    keeps = ~np.array(counted.is_over_long, np.bool_)
    return EncodedExamples(counted.rows[keeps], 0, sum(counted.is_over_long))


def to_conversations(examples: pa.Table) -> list[list[chat.Message]]:
    """Return the messages of examples."""
    return [
        [chat.Message(item["role"], item["content"]) for item in messages]
        for messages in examples["messages"].to_pylist()
    ]


def _encode_chat(examples: pa.Table, encoding: Encoding) -> EncodedExamples:
    encoded = chat.encode(
        encoding.encoder,
        to_conversations(examples),
        encoding.added_tokens,
        encoding.max_length,
    )
    is_taught = (encoded.rows[:, encoding.max_length :] == 1).any(1)
    return EncodedExamples(
        encoded.rows[is_taught], sum(encoded.is_over_long), int((~is_taught).sum())
    )


def _encode_completion(examples: pa.Table, encoding: Encoding) -> EncodedExamples:
    texts = examples["text"].to_pylist()
    return EncodedExamples(fill_in_middle.encode(encoding.encoder, texts, encoding.max_length).rows)


def _encode_embedding(examples: pa.Table, encoding: Encoding) -> EncodedExamples:
    count = _head(encoding).num_negatives
    positives = examples["positive"].to_pylist()
    negatives = [
        [*own, *[positive] * count][:count]
        for own, positive in zip(examples["negatives"].to_pylist(), positives, strict=True)
    ]
    columns = [
        examples["query"].to_pylist(),
        positives,
        *([own[number] for own in negatives] for number in range(count)),
    ]
    encoded = [
        encoding.encoder.encode(texts, [None] * len(texts), encoding.max_length)
        for texts in columns
    ]
    cut = np.logical_or.reduce([texts.is_truncated for texts in encoded])
    rows = contrastive.encode(encoded[0], encoded[1], encoded[2:])
    return EncodedExamples(rows, int(cut.sum()))


def _head(encoding: Encoding) -> HeadConfig:
    assert encoding.head is not None
    return encoding.head


ENCODERS: Mapping[str, Callable[[pa.Table, Encoding], EncodedExamples]] = {
    "classification": _encode_classification,
    "tagging": _encode_tagging,
    "qa": _encode_qa,
    "seq2seq": _encode_seq2seq,
    "chat": _encode_chat,
    "completion": _encode_completion,
    "embedding": _encode_embedding,
}
