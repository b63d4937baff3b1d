"""Labels of texts and pairs of texts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.predict.load import BATCH_SIZE, load_released
from tasks.finetune.selection import Selection

THRESHOLD = 0.5  # of the probability of each of several labels


@torch.no_grad()
def predict_labels(folder: Path, selection: Selection, entry: FinetuneEntry) -> Predictions:
    """Return the labels of test examples, and the probability of each label.

    Texts go through the released tokenizer, as a user's do.
    """
    released = load_released(folder)
    model, tokenizer = released.model, released.tokenizer
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    several = model.config.problem_type == "multi_label_classification"
    rows = selection.test.select(["text", "text_pair"]).to_pylist()
    table = np.zeros((len(rows), len(names)), np.float64)
    for numbers in _batches(rows):
        batch = [rows[number] for number in numbers]
        pairs = [row["text_pair"] for row in batch]
        encoded = tokenizer(
            [row["text"] for row in batch],
            pairs if pairs[0] is not None else None,
            truncation=True,
            max_length=min(
                entry.model.max_length or tokenizer.model_max_length, tokenizer.model_max_length
            ),
            padding=True,
            return_tensors="pt",
        )
        logits = model(**encoded).logits.double()
        table[numbers] = (logits.sigmoid() if several else logits.softmax(-1)).numpy()
    if several:
        items = [[names[i] for i in np.flatnonzero(row >= THRESHOLD)] for row in table]
    else:
        items = [[names[i]] for i in table.argmax(1)]
    return Predictions(items, table)


def _batches(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    """Yield the numbers of the rows of each batch: of pairs of texts, or of single ones."""
    for is_pair in (False, True):
        numbers = [n for n, row in enumerate(rows) if (row["text_pair"] is not None) is is_pair]
        for start in range(0, len(numbers), BATCH_SIZE):
            yield numbers[start : start + BATCH_SIZE]
