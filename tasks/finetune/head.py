"""The head of an entry: its labels and their weights."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from infra.errors import UserError
from lm.models.heads.config import HeadConfig
from tasks.finetune.config import ClassificationEntry, EmbeddingEntry, QuestionEntry, TaggingEntry
from tasks.finetune.entry import FinetuneEntry


def make_head(
    entry: FinetuneEntry, stats: Mapping[str, Any], train: pa.Table, eos_id: int
) -> HeadConfig | None:
    """Return the head that an entry puts on its base; ``None`` if the base stays a language model.

    Args:
        entry: what to learn.
        stats: of its examples (``summarize_examples``).
        train: the training examples, whose labels are weighted and whose negatives are counted.
        eos_id: the base's end of text.

    Raises:
        UserError: if a weight names no label, or a label has none.
    """
    if isinstance(entry, EmbeddingEntry):
        longest = max(map(len, train["negatives"].to_pylist()), default=0)
        negatives = min(longest, entry.max_negatives)
        return HeadConfig(
            "embedding", eos_id, temperature=entry.temperature, num_negatives=negatives
        )
    if isinstance(entry, ClassificationEntry | TaggingEntry):
        labels = tuple(stats["labels"])
        column = "labels" if isinstance(entry, ClassificationEntry) else "tags"
        multi_label = isinstance(entry, ClassificationEntry) and entry.multi_label
        weights = _weigh(entry, labels, train[column].to_pylist())
        return HeadConfig(entry.task, eos_id, labels, multi_label, weights)
    return HeadConfig("qa", eos_id) if isinstance(entry, QuestionEntry) else None


def _weigh(
    entry: ClassificationEntry | TaggingEntry, labels: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[float, ...]:
    """Return a weight per label; none if all count the same.

    ``balanced`` is n / (k n_label), of King and Zeng 2001, as in scikit-learn; a label without a training
    example has 1.
    """
    if entry.class_weights is None:
        return ()
    if entry.class_weights == "balanced":
        counts = Counter(label for own in rows for label in own)
        total = sum(counts.values())
        return tuple(
            total / (len(labels) * counts[label]) if counts[label] else 1.0 for label in labels
        )
    if set(entry.class_weights) != set(labels):
        odd = min(set(entry.class_weights) ^ set(labels))
        raise UserError(
            f"finetune.{entry.name}.class_weights: {odd!r} is not both a label of the examples and a key; "
            f"labels: {', '.join(labels)}"
        )
    return tuple(entry.class_weights[label] for label in labels)
