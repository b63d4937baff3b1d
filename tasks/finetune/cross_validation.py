"""k-fold cross-validation of a classifier: predictions for training examples that it did not see."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.compute.arrays import F64
from lm.config.finetune import FinetuneConfig
from lm.models.heads.config import parse
from tasks.finetune.runs import FinetuningRuns, Outcome

if TYPE_CHECKING:
    from lm.objectives.examples import Rows

BATCH_SIZE = 32
THRESHOLD = 0.5  # of the probability of each of several labels


def cross_validate(runs: FinetuningRuns, rate: float) -> tuple[list[Outcome], pa.Table]:
    """Train a model per fold on the other folds; return the runs, and predictions for each fold.

    Args:
        runs: of the model; its training examples have folds.
        rate: the learning rate.

    Returns:
        The table has ``id``, ``fold``, ``labels``, ``predicted`` and ``scores``, in the order of the
        training examples.
    """
    train, folds = runs.train, sorted(set(runs.train["fold"].to_pylist()))
    # Edited copies of an example are in its fold, but not predicted.
    is_original = pc.is_in(train["id"], value_set=runs.examples.table(["id"])["id"])
    validation = runs.encode(runs.validation)  # early stopping must not see the fold, either
    head = runs.head
    assert head is not None
    outcomes, tables = [], []
    for number, fold in enumerate(folds):
        is_held = pc.equal(train["fold"], fold)
        held = train.filter(pc.and_(is_held, is_original))
        rest, own = runs.encode(train.filter(pc.invert(is_held))), runs.encode(held)
        run = runs.prepare(f"fold{fold}", rate, rest, validation)
        outcome = runs.train_one(run, rate, number, len(folds), f"fold {fold}: ")
        scores = predict_probabilities(outcome, own.rows)
        names = head.labels
        if head.multi_label:
            predicted = [[names[i] for i in np.flatnonzero(row >= THRESHOLD)] for row in scores]
        else:
            predicted = [[names[i]] for i in scores.argmax(1)]
        outcomes.append(outcome)
        columns = held.select(["id", "fold", "labels"])
        columns = columns.append_column("predicted", pa.array(predicted, pa.list_(pa.string())))
        column = pa.array(scores.tolist(), pa.list_(pa.float64()))
        tables.append(columns.append_column("scores", column))
    return outcomes, pa.concat_tables(tables).combine_chunks()


def write_predictions(table: pa.Table, path: Path) -> None:
    """Write the predictions as a file of the model's data set."""
    pq.write_table(table, path, compression="zstd")


def predict_probabilities(outcome: Outcome, rows: "Rows") -> F64:
    """Return a trained classifier's probabilities of the labels for encoded examples, float64[n, L]."""
    import torch
    from safetensors.torch import load_file

    from lm.models.heads.model import build_finetuned
    from lm.models.neural_lm import WEIGHTS
    from lm.models.single_thread import single_thread

    job = outcome.run.job
    assert isinstance(job.config, FinetuneConfig)
    base, head = parse(job.config.architecture)
    assert head is not None
    model = build_finetuned(base, head)
    model.load_saved(load_file(job.folder / WEIGHTS))
    objective = model.eval().objective(job.seed, job.config.eos_id)
    examples = objective(rows, np.arange(len(rows)))
    with torch.no_grad(), single_thread():
        logits = torch.cat([model(part.inputs).double() for part in examples.split(BATCH_SIZE)])
    probabilities = logits.sigmoid() if head.multi_label else logits.softmax(-1)
    result: F64 = probabilities.numpy()
    return result
