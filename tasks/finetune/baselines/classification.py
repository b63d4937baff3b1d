"""Classification by the majority class, by TF-IDF with logistic regression, and by fastText."""

import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import F64
from tasks.finetune.metrics.classification import label_matrix
from tasks.finetune.metrics.compute import Predictions

# `\w+`, not scikit-learn's default, which drops words of one character.
TFIDF = {"ngram_range": (1, 2), "sublinear_tf": True, "token_pattern": r"\w+"}
REGULARIZATION = (1.0, 10.0)  # C of the logistic regression; the validation split chooses
FASTTEXT = {"lr": 0.5, "epoch": 25, "wordNgrams": 2, "dim": 50, "bucket": 200_000, "minCount": 1}
MULTI_LABEL_THRESHOLD = 0.5  # probability from which an example has a label


def predict_majority(train: pa.Table, test: pa.Table, labels: Sequence[str]) -> Predictions:
    """Predict the most frequent labels of the training split for every example."""
    rows = train["labels"].to_pylist()
    counts = Counter(tuple(names) for names in rows)
    # The first in alphabetical order among equally frequent ones.
    best = min(counts, key=lambda names: (-counts[names], names))
    rates = label_matrix(rows, labels).mean(axis=0)
    return Predictions([list(best)] * test.num_rows, np.tile(rates, (test.num_rows, 1)))


def predict_tfidf(
    train: pa.Table, validation: pa.Table, test: pa.Table, labels: Sequence[str]
) -> Predictions:
    """Fit logistic regression on TF-IDF of words and pairs of words, and predict.

    Of a pair of texts, each has features of its own. C is the one of ``REGULARIZATION`` with the most
    right examples in the validation split (the first, if that is empty).
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    columns = ["text"] if train["text_pair"].null_count == train.num_rows else ["text", "text_pair"]
    matrices: list[list[Any]] = [[], [], []]
    for column in columns:
        vectorizer = TfidfVectorizer(**TFIDF)
        texts = [
            [text or "" for text in split[column].to_pylist()]
            for split in (train, validation, test)
        ]
        try:
            matrices[0].append(vectorizer.fit_transform(texts[0]))
        except ValueError:  # no text has a word, as if all were emoji
            vectorizer.fit(["no word"])
            matrices[0].append(vectorizer.transform(texts[0]))
        for matrix, items in zip(matrices[1:], texts[1:], strict=True):
            matrix.append(vectorizer.transform(items) if items else None)
    features = [hstack(parts).tocsr() if parts[0] is not None else None for parts in matrices]
    truth = label_matrix(train["labels"].to_pylist(), labels)
    held = label_matrix(validation["labels"].to_pylist(), labels)
    is_single = _is_single(train)
    chosen: tuple[int, Any] = (-1, None)
    for c in REGULARIZATION if features[1] is not None else REGULARIZATION[:1]:
        model = _fit_logistic(features[0], truth, c, is_single=is_single)
        right = -1
        if features[1] is not None:
            guess = _probabilities(model, features[1], len(labels), is_single=is_single)
            right = int((_decide(guess, is_single=is_single) == held).all(axis=1).sum())
        if chosen[1] is None or right > chosen[0]:
            chosen = (right, model)
    if features[2] is None:
        return Predictions([], np.zeros((0, len(labels))))
    scores = _probabilities(chosen[1], features[2], len(labels), is_single=is_single)
    return _as_predictions(scores, labels, is_single=is_single)


def _fit_logistic(features: Any, truth: Any, c: float, *, is_single: bool) -> Any:
    from sklearn.linear_model import LogisticRegression

    def fit(target: Any) -> Any:
        if len(np.unique(target)) == 1:
            return int(target[0])  # a column without both classes needs no model
        # A quarter of lbfgs's time for many words, and nearer to the optimum: with lbfgs's default
        # tolerance, probabilities of 8,000 short texts were wrong by up to 0.05.
        model = LogisticRegression(C=c, max_iter=1000, solver="newton-cg", tol=1e-6)
        return model.fit(features, target)

    if is_single:
        return fit(truth.argmax(axis=1))
    return [fit(truth[:, i]) for i in range(truth.shape[1])]


def _probabilities(model: Any, features: Any, k: int, *, is_single: bool) -> F64:
    n = features.shape[0]
    scores = np.zeros((n, k))
    if is_single:
        if isinstance(model, int):
            scores[:, model] = 1
        else:
            scores[:, model.classes_] = model.predict_proba(features)
        return scores
    for i, one in enumerate(model):
        scores[:, i] = one if isinstance(one, int) else one.predict_proba(features)[:, 1]
    return scores


def predict_fasttext(
    train: pa.Table, test: pa.Table, labels: Sequence[str], seed: int
) -> Predictions:
    """Train fastText's classifier (Joulin et al. 2016) on words and pairs of words, and predict.

    It reads its file in the order of the lines, in every epoch: of examples that are sorted by label it learns
    the last one, so they are shuffled. One thread: with more, the result depends on their timing. Labels
    are numbers to it, as its format allows no spaces in them.
    """
    import fasttext

    index = {label: i for i, label in enumerate(labels)}
    is_single = _is_single(train)
    rows = list(zip(_lines(train), train["labels"].to_pylist(), strict=True))
    random.Random(seed).shuffle(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        with path.open("w", encoding="utf-8") as file:
            for text, names in rows:
                marks = " ".join(f"__label__{index[name]}" for name in names)
                if marks:
                    file.write(f"{marks} {text}\n")
        loss = "softmax" if is_single else "ova"
        model = fasttext.train_supervised(
            str(path), loss=loss, thread=1, seed=seed % 2**31, verbose=0, **FASTTEXT
        )
    scores = np.zeros((test.num_rows, len(labels)))
    if test.num_rows:
        names, probabilities = model.predict(_lines(test), k=-1)
        for row, (found, values) in enumerate(zip(names, probabilities, strict=True)):
            columns = [int(name.removeprefix("__label__")) for name in found]
            scores[row, columns] = values
    if is_single:
        scores /= np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)  # its softmax is approximate
    return _as_predictions(np.minimum(scores, 1.0), labels, is_single=is_single)


def _lines(table: pa.Table) -> list[str]:
    """Return each example on one line, in lower case, with punctuation as words of their own."""
    lines = []
    for text, pair in zip(table["text"].to_pylist(), table["text_pair"].to_pylist(), strict=True):
        both = text if pair is None else f"{text} | {pair}"
        spaced = "".join(c if c.isalnum() or c.isspace() else f" {c} " for c in both.casefold())
        lines.append(" ".join(spaced.split()))
    return lines


def _is_single(train: pa.Table) -> bool:
    return all(len(names) == 1 for names in train["labels"].to_pylist())


def _decide(scores: F64, *, is_single: bool) -> Any:
    if not is_single:
        return (scores >= MULTI_LABEL_THRESHOLD).astype(np.int64)
    decided = np.zeros(scores.shape, np.int64)
    decided[np.arange(len(scores)), scores.argmax(axis=1)] = 1
    return decided


def _as_predictions(scores: F64, labels: Sequence[str], *, is_single: bool) -> Predictions:
    decided = _decide(scores, is_single=is_single)
    items = [[labels[i] for i in np.flatnonzero(row).tolist()] for row in decided]
    return Predictions(items, scores)
