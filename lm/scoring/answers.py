"""Exact match and token F1 of answers, as the evaluation script of SQuAD 2.0 defines them."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from infra.statistics.bootstrap import ExampleStats, mean_of, ratio_of

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower-case, drop punctuation and English articles, and collapse white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(gold: str, predicted: str) -> float:
    """Return the F1 of the words of two answers; of an empty one, whether both are."""
    right, guess = normalize_answer(gold).split(), normalize_answer(predicted).split()
    if not right or not guess:
        return float(right == guess)
    shared = sum((Counter(right) & Counter(guess)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(guess), shared / len(right)
    return 2 * precision * recall / (precision + recall)


def qa_stats(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> dict[str, ExampleStats]:
    """Return ``exact_match`` and ``f1``, each the best over the gold answers of a question.

    If some but not all questions have an answer, also ``f1_answerable`` and
    ``no_answer_accuracy``, over the two kinds of questions.

    Args:
        gold: the answers of n questions; none: the question has no answer.
        predicted: an answer to each; empty: there is none.
    """
    exact, f1 = np.zeros(len(gold)), np.zeros(len(gold))
    for row, (answers, guess) in enumerate(zip(gold, predicted, strict=True)):
        # As the script does: answers that are nothing but articles and punctuation do not count.
        texts = [text for text in answers if normalize_answer(text)] or [""]
        exact[row] = max(normalize_answer(text) == normalize_answer(guess) for text in texts)
        f1[row] = max(token_f1(text, guess) for text in texts)
    metrics = {"exact_match": mean_of(exact), "f1": mean_of(f1)}
    answerable = np.array([bool(answers) for answers in gold], float)
    if 0 < answerable.sum() < len(gold):
        metrics["f1_answerable"] = ratio_of(f1 * answerable, answerable)
        metrics["no_answer_accuracy"] = ratio_of(exact * (1 - answerable), 1 - answerable)
    return metrics
