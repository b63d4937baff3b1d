"""The predictions of a released model for the examples of a task."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from tasks.finetune.config import FinetuneEntry
from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.predict.classification import predict_labels

Predict = Callable[[Path, pa.Table, FinetuneEntry], Predictions]

PREDICT: Mapping[str, Predict] = {"classification": predict_labels}


def predict_test(folder: Path, test: pa.Table, entry: FinetuneEntry) -> Predictions:
    """Return the predictions of a model.

    Args:
        folder: of the release.
        test: examples of the task.
        entry: of the model.
    """
    return PREDICT[entry.task_name](folder, test, entry)
