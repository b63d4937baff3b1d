"""Targets of the test examples of ``seq2seq``."""

from pathlib import Path

from tasks.finetune.config import Seq2SeqTaskEntry
from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.predict.write import write_targets
from tasks.finetune.selection import Selection


def predict_targets(folder: Path, selection: Selection, entry: FinetuneEntry) -> Predictions:
    """Return the text that the model writes for each test source."""
    assert isinstance(entry, Seq2SeqTaskEntry)
    return Predictions(write_targets(folder, selection.test["source"].to_pylist(), entry))
