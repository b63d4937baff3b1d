"""The examples of one model: its fraction of the training examples, and all others."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import hash_to_unit
from tasks.finetune.entry import Variant


@dataclass(frozen=True)
class Selection:
    """Examples by split.

    Attributes:
        train: those that the model is trained on.
        validation: those that it is validated on: a model with few labels has few to choose by, too.
        test: all of the split.
        over_budget: training examples that were left out.
    """

    train: pa.Table
    validation: pa.Table
    test: pa.Table
    over_budget: int


def select_examples(variant: Variant, examples: Dataset, seed: int) -> Selection:
    """Take a variant's fraction of the labeled examples; a smaller one is part of a larger one.

    Of a classification, labels have about the same fractions in each, and every label is in it, if there is
    room.

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
    strata = (
        [str(own) for own in table["labels"].to_pylist()] if "labels" in table.column_names else ids
    )
    chosen = {
        split: _draw(rows[split], variant.budget, ids, strata, seed)
        for split in ("train", "validation")
    }
    train, validation, test = (
        table.take(pa.array(own, pa.int64())).combine_chunks()
        for own in (chosen["train"], chosen["validation"], rows["test"])
    )
    return Selection(train, validation, test, len(rows["train"]) - len(chosen["train"]))


def _draw(
    rows: Sequence[int], fraction: float, ids: Sequence[str], strata: Sequence[str], seed: int
) -> list[int]:
    """Return a fraction of rows, at least one, in their order: first one of each stratum, then in proportion."""
    keys = {row: (hash_to_unit(seed, "budget", ids[row]), row) for row in rows}
    ordered: dict[str, list[int]] = {}
    for row in sorted(rows, key=keys.__getitem__):
        ordered.setdefault(strata[row], []).append(row)
    ranked = [
        (rank / len(own), keys[row], row)
        for own in ordered.values()
        for rank, row in enumerate(own)
    ]
    count = max(1, round(fraction * len(rows)))
    return sorted(row for _, _, row in sorted(ranked)[:count])
