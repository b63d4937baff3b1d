"""Copying, leading sentences, and translation word by word with a dictionary learned from the pairs."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from infra.compute.arrays import F64, I64
from tasks.finetune.baselines.qa import split_sentences
from tasks.finetune.metrics.compute import Predictions

EM_ITERATIONS = 10
MAX_WORDS = 60  # of a sentence from which the dictionary is learned
_TOKEN = re.compile(r"\w+|[^\w\s]")
_NULL = 0  # the empty word, of which target words without a counterpart are translations


def predict_copy(test: pa.Table) -> Predictions:
    """Return the source as it is."""
    return Predictions(test["source"].to_pylist())


def predict_lead(test: pa.Table, n: int) -> Predictions:
    """Return the first n sentences of the source."""
    return Predictions([" ".join(split_sentences(text)[:n]) for text in test["source"].to_pylist()])


def is_summarization(train: pa.Table) -> bool:
    """Whether most targets are less than half as long as their sources."""
    sizes = [
        (len(target), len(source))
        for target, source in zip(
            train["target"].to_pylist(), train["source"].to_pylist(), strict=True
        )
    ]
    shorter = sum(2 * target < source for target, source in sizes)
    return 2 * shorter > len(sizes)


def predict_dictionary(train: pa.Table, test: pa.Table) -> Predictions:
    """Translate word by word, each to its most likely translation; unknown words are copied.

    The probabilities t(target | source) are those of IBM model 1 (Brown et al. 1993), by expectation
    maximization from uniform ones.
    """
    dictionary = learn_dictionary(train["source"].to_pylist(), train["target"].to_pylist())
    return Predictions([_translate(text, dictionary) for text in test["source"].to_pylist()])


def learn_dictionary(sources: Sequence[str], targets: Sequence[str]) -> dict[str, str]:
    """Return the most likely translation of each source word, in lower case."""
    source_ids: dict[str, int] = {"": _NULL}
    target_ids: dict[str, int] = {}
    left, right, slots = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    slot = 0
    for source, target in zip(sources, targets, strict=True):
        a = [_NULL, *(source_ids.setdefault(w, len(source_ids)) for w in _tokenize(source))]
        b = [target_ids.setdefault(w, len(target_ids)) for w in _tokenize(target)]
        left.append(np.tile(np.array(a, np.int64), len(b)))
        right.append(np.repeat(np.array(b, np.int64), len(a)))
        slots.append(np.repeat(np.arange(slot, slot + len(b)), len(a)))
        slot += len(b)
    pairs = np.concatenate(left) * len(target_ids) + np.concatenate(right)
    distinct, cell = np.unique(pairs, return_inverse=True)
    if not len(distinct):
        return {}
    words = distinct // len(target_ids)
    probabilities = _run_em(words, cell, np.concatenate(slots), len(source_ids))
    # The best target of each source word; of equals, the one that was met first.
    order = np.lexsort((distinct % len(target_ids), -probabilities, words))
    firsts = order[np.unique(words[order], return_index=True)[1]]
    source_names, target_names = [*source_ids], [*target_ids]
    return {
        source_names[words[i]]: target_names[distinct[i] % len(target_ids)]
        for i in firsts.tolist()
        if words[i] != _NULL
    }


def _run_em(words: I64, cell: I64, slots: I64, num_words: int) -> F64:
    """Return t(target | source) of the distinct pairs of words.

    Args:
        words: the source word of each distinct pair.
        cell: the distinct pair of each pair of words in the text.
        slots: the target word in the text to which each pair belongs.
        num_words: number of source words.
    """
    probabilities = np.ones(len(words))
    for _ in range(EM_ITERATIONS):
        weights = probabilities[cell]
        weights /= np.bincount(slots, weights)[slots]
        counts = np.bincount(cell, weights, len(words))
        probabilities = counts / np.bincount(words, counts, num_words)[words]
    return probabilities


def _tokenize(text: str) -> list[str]:
    return _TOKEN.findall(text.casefold())[:MAX_WORDS]


def _translate(text: str, dictionary: dict[str, str]) -> str:
    out = ""
    for word in _TOKEN.findall(text):
        translation = dictionary.get(word.casefold(), word)
        if word[0].isupper():
            translation = translation[:1].upper() + translation[1:]
        is_mark = not translation[:1].isalnum()
        out += translation if is_mark or not out else f" {translation}"
    return out
