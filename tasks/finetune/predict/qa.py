"""Answers that are spans of passages."""

from pathlib import Path

import numpy as np

from lm.models.heads.config import HeadConfig
from lm.objectives.spans import NUM_TARGETS, decode, encode
from tasks.finetune.encode import to_questions
from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.predict.load import load_released, run_in_batches
from tasks.finetune.selection import Selection


def predict_answers(folder: Path, selection: Selection, entry: FinetuneEntry) -> Predictions:
    """Return the answers to the test questions; empty for none, if training questions had none."""
    released = load_released(folder)
    longest = released.tokenizer.model_max_length
    max_length = min(entry.model.max_length or longest, longest)
    questions = to_questions(selection.test)
    encoded = encode(released.encoder, questions, max_length)
    head = HeadConfig("qa", released.eos_id)
    outputs = run_in_batches(released, head, encoded.rows[:, NUM_TARGETS:])
    logits = np.full((len(outputs), max_length, 2), -np.inf, np.float32)
    for row, own, ids in zip(logits, outputs, encoded.rows[:, NUM_TARGETS:], strict=True):
        length = int((ids >= 0).sum())
        row[:length] = own[:length].numpy()
    may_be_none = any(not answers for answers in selection.train["answers"].to_pylist())
    answers = decode(logits, encoded, questions, threshold=0.0 if may_be_none else None)
    return Predictions([answer.text for answer in answers])
