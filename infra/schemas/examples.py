"""The columns of the examples that models are fine-tuned on, per task."""

from collections.abc import Mapping
from typing import Literal, get_args

import pyarrow as pa

Task = Literal[
    "classification", "tagging", "qa", "seq2seq", "chat", "completion", "embedding"
]  # fmt: skip
TASKS: tuple[Task, ...] = get_args(Task)
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_STRINGS = pa.list_(pa.string())

# `start` is the offset of the answer's first character in the context. No answer: the question has none.
ANSWERS_TYPE = pa.list_(pa.struct([("text", pa.string()), ("start", pa.int64())]))
MESSAGES_TYPE = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

EXAMPLES: Mapping[Task, pa.Schema] = {
    # `labels` has one label, or any number of them if an example may have several.
    "classification": pa.schema(
        [("text", pa.string()), ("text_pair", pa.string()), ("labels", _STRINGS)]
    ),
    # `tags` are as many as `words`; `predicate` is the index of the word whose roles the tags are.
    "tagging": pa.schema([("words", _STRINGS), ("tags", _STRINGS), ("predicate", pa.int32())]),
    "qa": pa.schema(
        [("question", pa.string()), ("context", pa.string()), ("answers", ANSWERS_TYPE)]
    ),
    "seq2seq": pa.schema([("source", pa.string()), ("target", pa.string())]),
    "chat": pa.schema([("messages", MESSAGES_TYPE)]),
    "completion": pa.schema([("text", pa.string())]),
    "embedding": pa.schema(
        [("query", pa.string()), ("positive", pa.string()), ("negatives", _STRINGS)]
    ),
}

# What an example was made from, where its file says so; null elsewhere. A removal of any of them removes it.
SOURCE = pa.schema([("url", pa.string()), ("license", pa.string()), ("document_id", pa.string())])

# Where an example stands: the name of its file and the number of its row there, from 1. `id` is a
# digest of the task's columns, so equal examples have equal ids. `fold` is null without cross-validation.
ORIGIN = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("fold", pa.int32()),
        *SOURCE,
    ]
)
# Of a fine-tuned model's data set: `id` and `split` of the examples that it was trained and validated on.
EXAMPLES_FILE = "examples.parquet"

# Of a fine-tuned model's data set: the rows that it was trained on besides, written by a translator.
AUGMENTED_FILE = "augmented.parquet"

MODEL = "model"  # the name of the fine-tuned model among the systems of its scores
# Of a cross-validated model's data set: `id`, `fold`, `labels`, `predicted`, `scores` per training example.
OUT_OF_FOLD_FILE = "out_of_fold.parquet"


def example_schema(task: Task) -> pa.Schema:
    """Return the columns of a data set of examples: where each is from, then the task's own."""
    return pa.schema([*ORIGIN, *EXAMPLES[task]])
