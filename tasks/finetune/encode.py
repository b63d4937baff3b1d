"""From examples to the rows that a model is fine-tuned on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from lm.models.heads.config import HeadConfig
from lm.objectives import classification
from lm.objectives.examples import Rows
from lm.objectives.text_rows import TextEncoder


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as rows of ids.

    Attributes:
        rows: int64[n, W], in the layout of the task's objective.
        truncated: number of examples that were longer.
    """

    rows: Rows
    truncated: int


def encode_examples(
    examples: pa.Table, encoder: TextEncoder, head: HeadConfig, max_length: int
) -> EncodedExamples:
    """Encode the examples of a task.

    Args:
        examples: rows of the task's schema.
        encoder: of the base's tokenizer.
        head: the task, its labels.
        max_length: of an example, in tokens.
    """
    return ENCODERS[head.task](examples, encoder, head, max_length)


def _encode_classification(
    examples: pa.Table, encoder: TextEncoder, head: HeadConfig, max_length: int
) -> EncodedExamples:
    texts = encoder.encode(
        examples["text"].to_pylist(), examples["text_pair"].to_pylist(), max_length
    )
    rows = classification.encode(
        texts, examples["labels"].to_pylist(), head.labels, multi_label=head.multi_label
    )
    return EncodedExamples(rows, sum(texts.is_truncated))


ENCODERS: Mapping[str, Callable[[pa.Table, TextEncoder, HeadConfig, int], EncodedExamples]] = {
    "classification": _encode_classification,
}
