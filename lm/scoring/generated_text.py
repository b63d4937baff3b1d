"""Metrics of generated text: BLEU and chrF by sacrebleu, ROUGE, exact match.

ROUGE is as rouge-score computes it without stemming, and a test holds these lines equal to it. The package is not
a dependency, as it brings nltk along for a stemmer that is not used here.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.compute.arrays import F64, I32
from infra.compute.jit import jit
from infra.statistics.bootstrap import ExampleStats, divide, mean_of

BLEU_ORDER = 4
CHRF_BETA = 2
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")


def translation_stats(
    gold: Sequence[str], predicted: Sequence[str], tokenizer: str = "13a"
) -> dict[str, ExampleStats]:
    """Return ``bleu``, ``chrf``, both from 0 to 100 as sacrebleu has them, and ``exact_match``.

    Args:
        gold: the reference of n examples.
        predicted: the output of the system for each.
        tokenizer: of sacrebleu's BLEU: ``13a``, ``zh``, ``char`` (for Japanese, Korean, Thai).
    """
    bleu, chrf = _sacrebleu_metrics(tokenizer)
    # What sacrebleu's own paired tests are made from: counts per sentence, whose sums give the score.
    counts = bleu._extract_corpus_statistics(list(predicted), [list(gold)])
    characters = chrf._extract_corpus_statistics(list(predicted), [list(gold)])
    return {
        "bleu": ExampleStats(_as_matrix(counts, 2 + 2 * BLEU_ORDER), compute_bleu),
        "chrf": ExampleStats(_as_matrix(characters, 3 * chrf.order), compute_chrf),
        "exact_match": mean_of(_equal(gold, predicted)),
    }


def signatures(tokenizer: str = "13a") -> dict[str, str]:
    """Return sacrebleu's signatures of ``bleu`` and ``chrf``: with them, a score can be compared."""
    out = {}
    for name, metric in zip(("bleu", "chrf"), _sacrebleu_metrics(tokenizer), strict=True):
        metric.corpus_score(["a"], [["a"]])  # the signature has the number of references
        out[name] = metric.get_signature().format()
    return out


def _sacrebleu_metrics(tokenizer: str) -> tuple[Any, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    # `force`: no warning that text looks tokenized; it is as the user's files have it.
    return BLEU(tokenize=tokenizer, force=True), CHRF(beta=CHRF_BETA)


def _as_matrix(rows: Sequence[Sequence[int]], width: int) -> F64:
    return np.array(rows, np.float64).reshape(len(rows), width)


def compute_bleu(sums: F64) -> F64:
    """Compute BLEU from sums over sentences, as sacrebleu does with exponential smoothing.

    Args:
        sums: [..., (system length, reference length, matches of 1 to 4 words, n-grams of 1 to 4 words)].
    """
    lengths, matches, totals = np.split(sums, [2, 2 + BLEU_ORDER], axis=-1)
    # An order without a match counts as half a match, the next such as a quarter, and so on.
    missed = np.cumsum((matches == 0) & (totals > 0), axis=-1)
    smoothed = np.where(matches > 0, matches, 0.5**missed)
    with np.errstate(divide="ignore"):
        logs = np.log(np.nan_to_num(divide(smoothed, totals)))
    system, reference = lengths[..., 0], lengths[..., 1]
    brevity = np.exp(np.minimum(0, 1 - np.nan_to_num(divide(reference, system), nan=np.inf)))
    score = 100 * brevity * np.exp(logs.mean(axis=-1))
    return np.where(matches.any(axis=-1), score, 0.0)


def compute_chrf(sums: F64) -> F64:
    """Compute chrF (Popovic 2015) from sums over sentences, as sacrebleu does.

    Args:
        sums: [..., orders * (n-grams of the system, of the reference, matches)].
    """
    hypothesis, reference, matches = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    counts = ((hypothesis > 0) & (reference > 0)).astype(np.float64)
    orders = counts.sum(axis=-1)
    precision = divide((np.nan_to_num(divide(matches, hypothesis)) * counts).sum(axis=-1), orders)
    recall = divide((np.nan_to_num(divide(matches, reference)) * counts).sum(axis=-1), orders)
    factor = CHRF_BETA**2
    score = divide((1 + factor) * precision * recall, factor * precision + recall)
    return 100 * np.nan_to_num(score)


def summarization_stats(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, ExampleStats]:
    """Return the F1 of ``rouge1``, ``rouge2`` and ``rougeL``, from 0 to 1, means over n examples.

    Words are runs of ASCII letters and digits in lower case, so ROUGE is of little use for text in
    other alphabets.
    """
    scores = {"rouge1": np.zeros(len(gold)), "rouge2": np.zeros(len(gold))}
    longest = np.zeros(len(gold))
    for row, (reference, output) in enumerate(zip(gold, predicted, strict=True)):
        right, guess = (
            _NOT_ALPHANUMERIC.sub(" ", text.lower()).split() for text in (reference, output)
        )
        for n, name in enumerate(scores, 1):
            scores[name][row] = _overlap_f1(_ngrams(right, n), _ngrams(guess, n))
        longest[row] = _lcs_f1(right, guess)
    return {name: mean_of(values) for name, values in (*scores.items(), ("rougeL", longest))}


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _overlap_f1(right: Counter[tuple[str, ...]], guess: Counter[tuple[str, ...]]) -> float:
    shared = (right & guess).total()
    return _f1(shared, guess.total(), right.total())


def _f1(shared: int, predicted: int, gold: int) -> float:
    return 2 * shared / (predicted + gold) if shared else 0.0


def _lcs_f1(right: Sequence[str], guess: Sequence[str]) -> float:
    index: dict[str, int] = {}
    ids = [
        np.array([index.setdefault(word, len(index)) for word in words], np.int32)
        for words in (right, guess)
    ]
    return _f1(int(_lcs_length(*ids)), len(guess), len(right))


@jit
def _lcs_length(a: I32, b: I32) -> int:
    row = np.zeros(len(b) + 1, np.int64)
    for i in range(len(a)):
        diagonal = 0  # of the row before
        for j in range(len(b)):
            above = row[j + 1]
            row[j + 1] = diagonal + 1 if a[i] == b[j] else max(above, row[j])
            diagonal = above
    return int(row[len(b)])


def _equal(gold: Sequence[str], predicted: Sequence[str]) -> F64:
    pairs = zip(gold, predicted, strict=True)
    return np.array([right.strip() == guess.strip() for right, guess in pairs], np.float64)
