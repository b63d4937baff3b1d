"""Metrics of tag sequences: spans of BIO tags as seqeval counts them, or tags of words.

seqeval (its default mode, that of conlleval) is the reference, and a test holds these lines equal to it. It is not
a dependency: its last release is of 2020, and it gives sums over a corpus, not per sentence, from which
intervals are made.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from infra.compute.arrays import F64
from infra.statistics.bootstrap import ExampleStats, ratio_of
from tasks.finetune.metrics.classification import RATES, average_classes, pool_classes

Tags = Sequence[str]
Span = tuple[str, int, int]  # type, first word, last word
PREDICATE_ROLE = "V"  # the predicate itself, which CoNLL's scorers of roles do not count


def is_bio(sentences: Sequence[Tags]) -> bool:
    """Whether tags are spans: each is O, or a type after B- or I-."""
    return all(tag == "O" or tag[:2] in ("B-", "I-") for tags in sentences for tag in tags)


def find_spans(tags: Tags) -> list[Span]:
    """Return the spans of BIO tags; an I- that continues no span of its type begins one."""
    spans: list[Span] = []
    start, kind = 0, ""
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, new_kind = tag.partition("-")
        continues = prefix == "I" and new_kind == kind
        if kind and not continues:
            spans.append((kind, start, index - 1))
            kind = ""
        if prefix in ("B", "I") and not continues:
            start, kind = index, new_kind
    return spans


def tagging_stats(
    gold: Sequence[Tags], predicted: Sequence[Tags], *, roles: bool = False
) -> dict[str, ExampleStats]:
    """Return ``accuracy`` of words, and precision, recall and F1 of spans or of tags.

    Spans if all gold tags are BIO: ``precision``, ``recall``, ``f1`` over all spans (micro), ``f1_macro`` over
    types, and ``f1/<type>``. Other tags, such as parts of speech: ``f1_macro`` and ``f1/<tag>``.

    Args:
        gold: the tags of n sentences.
        predicted: as many tags for each.
        roles: whether the tags are semantic roles; the predicate's own is then left out of the spans.

    Raises:
        ValueError: if a sentence has another number of predicted tags.
    """
    for right, guess in zip(gold, predicted, strict=True):
        if len(right) != len(guess):
            raise ValueError(f"{len(guess)} predicted tags for {len(right)} words")
    hits = [
        sum(map(str.__eq__, right, guess)) for right, guess in zip(gold, predicted, strict=True)
    ]
    metrics = {"accuracy": ratio_of(np.array(hits, float), np.array([*map(len, gold)], float))}
    bio = is_bio(gold)
    items = [[_items(tags, bio=bio, roles=roles) for tags in side] for side in (gold, predicted)]
    types = sorted({item[0] for side in items for sentence in side for item in sentence})
    counts = np.stack(
        [_count(right, guess, types) for right, guess in zip(*items, strict=True)]
        or [np.zeros((len(types), 3))]
    )
    flat = counts.reshape(len(counts), -1)
    for kind, rate in RATES.items():
        if bio:
            metrics[kind] = ExampleStats(flat, partial(pool_classes, len(types), rate))
        metrics[f"{kind}_macro"] = ExampleStats(flat, partial(average_classes, len(types), rate))
    for index, name in enumerate(types):
        metrics[f"f1/{name}"] = ExampleStats(counts[:, index], RATES["f1"])
    return metrics


def _items(tags: Tags, *, bio: bool, roles: bool) -> Counter[Span]:
    if not bio:
        return Counter((tag, index, index) for index, tag in enumerate(tags))
    spans = find_spans(tags)
    return Counter(span for span in spans if not (roles and span[0] == PREDICATE_ROLE))


def _count(gold: Counter[Span], predicted: Counter[Span], types: Sequence[str]) -> F64:
    """Return true positives, false positives and false negatives of a sentence, float64[types, 3]."""
    index = {name: i for i, name in enumerate(types)}
    counts = np.zeros((len(types), 3))
    for items, column in ((gold & predicted, 0), (predicted - gold, 1), (gold - predicted, 2)):
        for item in items:
            counts[index[item[0]], column] += 1
    return counts
