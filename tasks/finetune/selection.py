"""The examples of one model: its fraction of the training examples, and all others."""

from dataclasses import dataclass

import pyarrow as pa

from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import hash_to_unit
from tasks.finetune.config import Variant


@dataclass(frozen=True)
class Selection:
    """Examples by split.

    Attributes:
        train: those that the model is trained on.
        validation: all of the split.
        test: all of the split.
        over_budget: training examples that were left out.
    """

    train: pa.Table
    validation: pa.Table
    test: pa.Table
    over_budget: int


def select_examples(variant: Variant, examples: Dataset, seed: int) -> Selection:
    """Take a variant's fraction of the training examples; a smaller one is part of a larger one.

    Args:
        variant: the model.
        examples: of its entry.
        seed: the recipe's, so that models of other seeds are trained on the same examples.
    """
    table = examples.table()
    rows: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for row, split in enumerate(table["split"].to_pylist()):
        rows[split].append(row)
    ids = table["id"].to_pylist()
    count = max(1, round(variant.budget * len(rows["train"])))
    drawn = sorted(rows["train"], key=lambda row: (hash_to_unit(seed, "budget", ids[row]), row))
    chosen = sorted(drawn[:count])
    train, validation, test = (
        table.take(pa.array(own, pa.int64())).combine_chunks()
        for own in (chosen, rows["validation"], rows["test"])
    )
    return Selection(train, validation, test, len(rows["train"]) - count)
