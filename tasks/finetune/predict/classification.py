"""Labels of texts and pairs of texts."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.finetune.config import FinetuneEntry
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
    scores: list[Any] = []
    for start in range(0, len(rows), BATCH_SIZE):
        batch = rows[start : start + BATCH_SIZE]
        pairs = [row["text_pair"] for row in batch]
        # Either all examples of a file have a second text, or none has.
        encoded = tokenizer(
            [row["text"] for row in batch],
            [pair or "" for pair in pairs] if any(pairs) else None,
            truncation=True,
            max_length=min(
                entry.model.max_length or tokenizer.model_max_length, tokenizer.model_max_length
            ),
            padding=True,
            return_tensors="pt",
        )
        logits = model(**encoded).logits.double()
        scores += (logits.sigmoid() if several else logits.softmax(-1)).tolist()
    table = np.array(scores, np.float64).reshape(len(rows), len(names))
    if several:
        items = [[names[i] for i in np.flatnonzero(row >= THRESHOLD)] for row in table]
    else:
        items = [[names[i]] for i in table.argmax(1)]
    return Predictions(items, table)
