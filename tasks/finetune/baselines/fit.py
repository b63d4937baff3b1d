"""The baselines of a task."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from infra.schemas.examples import Task
from tasks.finetune.baselines.classification import (
    predict_fasttext,
    predict_majority,
    predict_tfidf,
)
from tasks.finetune.baselines.qa import predict_best_sentence, predict_no_answer
from tasks.finetune.baselines.search import predict_bm25
from tasks.finetune.baselines.seq2seq import (
    is_summarization,
    predict_copy,
    predict_dictionary,
    predict_lead,
)
from tasks.finetune.baselines.tagging import predict_word_majority
from tasks.finetune.metrics.compute import Predictions


def fit_baselines(
    task: Task,
    train: pa.Table,
    validation: pa.Table,
    test: pa.Table,
    labels: Sequence[str],
    seed: int,
) -> Iterator[tuple[str, Predictions]]:
    """Fit each baseline of a task on the training split, and predict the test split.

    * ``classification``: ``majority``, ``tfidf_logistic_regression``, ``fasttext``
    * ``tagging``: ``word_majority``
    * ``qa``: ``best_sentence``; ``no_answer`` if some questions have none
    * ``seq2seq``: ``copy``; for targets less than half as long as the sources ``lead_1`` and ``lead_3``, for
      others ``dictionary``
    * ``embedding``: ``bm25``
    * ``chat``, ``completion``: none but the base model itself, which is no matter of examples.

    Yields:
        Name and predictions. Equal arguments give equal predictions.

    Raises:
        ValueError: if there is nothing to fit on.
    """
    if not train.num_rows:
        raise ValueError("the training split is empty")
    if task == "classification":
        yield "majority", predict_majority(train, test, labels)
        yield "tfidf_logistic_regression", predict_tfidf(train, validation, test, labels)
        yield "fasttext", predict_fasttext(train, test, labels, seed)
    elif task == "tagging":
        yield "word_majority", predict_word_majority(train, test)
    elif task == "qa":
        yield "best_sentence", predict_best_sentence(test)
        if any(not answers for answers in test["answers"].to_pylist()):
            yield "no_answer", predict_no_answer(test)
    elif task == "seq2seq":
        yield "copy", predict_copy(test)
        if is_summarization(train):
            yield "lead_1", predict_lead(test, 1)
            yield "lead_3", predict_lead(test, 3)
        else:
            yield "dictionary", predict_dictionary(train, test)
    elif task == "embedding":
        yield "bm25", predict_bm25(test)
