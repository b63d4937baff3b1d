"""The predictions of a released model for the examples of a task."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.predict.classification import predict_labels
from tasks.finetune.predict.generation import predict_targets
from tasks.finetune.predict.likelihood import measure_answers, measure_texts
from tasks.finetune.predict.qa import predict_answers
from tasks.finetune.predict.search import rank_passages
from tasks.finetune.predict.tagging import predict_tags
from tasks.finetune.selection import Selection

Predict = Callable[[Path, Selection, FinetuneEntry], Predictions]

PREDICT: Mapping[str, Predict] = {
    "classification": predict_labels,
    "tagging": predict_tags,
    "qa": predict_answers,
    "seq2seq": predict_targets,
    "chat": measure_answers,
    "completion": measure_texts,
    "embedding": rank_passages,
}


def predict_test(folder: Path, selection: Selection, entry: FinetuneEntry) -> Predictions:
    """Return the predictions of a model for the test examples.

    Args:
        folder: of the release.
        selection: the examples; of those of training it is only asked what may occur.
        entry: of the model.
    """
    return PREDICT[entry.task_name](folder, selection, entry)
