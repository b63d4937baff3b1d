"""The systems of a test: their predictions as rows, their metrics and paired tests."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.schemas.examples import MODEL, SOURCE, Task
from tasks.finetune.entry import Variant
from tasks.finetune.metrics.compute import (
    Predictions,
    compute_metrics,
    describe_predictions,
    main_metric,
    paired_test,
)
from tasks.finetune.metrics.retrieval import make_retrieval_test

MAX_ERRORS = 12
SHOWN_ORIGIN = ("id", "file", "row", *SOURCE.names)  # of an example that a report quotes
# One row per example and system. `prediction` is JSON, as ``Predictions.items`` has it.
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("system", pa.string()),
        ("prediction", pa.string()),
        ("scores", pa.list_(pa.float64())),
    ]
)


def item_ids(task: str, test: pa.Table) -> list[str]:
    """Return the id of the example that each prediction is of; of a query, its first example's."""
    if task == "embedding":
        first: dict[str, str] = {}
        for query, example_id in zip(
            test["query"].to_pylist(), test["id"].to_pylist(), strict=True
        ):
            first.setdefault(query, example_id)
        return [first[query] for query in make_retrieval_test(test).queries]
    return [str(item) for item in test["id"].to_pylist()]


def to_rows(task: str, test: pa.Table, system: str, predictions: Predictions) -> pa.Table:
    """Return a system's predictions as rows of ``SCHEMA``."""
    items = [json.dumps(item, ensure_ascii=False) for item in predictions.items]
    scores = predictions.scores
    rows = [None] * len(items) if scores is None else np.asarray(scores).tolist()
    return pa.table(
        {
            "id": item_ids(task, test),
            "system": [system] * len(items),
            "prediction": items,
            "scores": rows,
        },
        schema=SCHEMA,
    )


def from_rows(rows: pa.Table) -> dict[str, Predictions]:
    """Return the predictions of each system; the reverse of ``to_rows``."""
    systems: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        systems.setdefault(row["system"], []).append(row)
    return {
        name: Predictions(
            [json.loads(row["prediction"]) for row in own],
            None
            if own[0]["scores"] is None
            else np.array([row["scores"] for row in own], np.float64),
        )
        for name, own in systems.items()
    }


def summarize(
    variant: Variant,
    test: pa.Table,
    systems: Mapping[str, Predictions],
    labels: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Return the statistics of a test.

    Returns:
        ``systems``: the metrics of each with intervals; ``differences``: the model minus each other
        system, with intervals and p-values; ``details`` of the model; ``main_metric``; ``errors``, a
        sample.
    """
    task, tokenizer = cast("Task", variant.entry.task_name), variant.entry.bleu_tokenizer
    own = systems[MODEL]
    others = {name: item for name, item in systems.items() if name != MODEL}
    metrics = {
        name: compute_metrics(task, test, item, labels, seed, tokenizer)
        for name, item in systems.items()
    }
    return {
        "task": task,
        "entry": variant.entry.name,
        "main_metric": main_metric(task, metrics[MODEL]),
        "n": test.num_rows,
        "systems": metrics,
        "differences": {
            name: paired_test(task, test, own, item, labels, seed, tokenizer)
            for name, item in others.items()
        },
        "details": describe_predictions(task, test, own, labels, tokenizer),
        "errors": _sample_errors(task, test, own),
    }


def summarize_folds(table: pa.Table, labels: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the metrics of out-of-fold predictions: of all, and of each fold.

    Args:
        table: the rows of ``OUT_OF_FOLD_FILE``.
        labels: all classes.
        seed: of the resamples.
    """

    def measure(own: pa.Table) -> dict[str, Any]:
        scores = np.array(own["scores"].to_pylist(), np.float64)
        predictions = Predictions(own["predicted"].to_pylist(), scores)
        metrics = compute_metrics("classification", own, predictions, labels, seed)
        return {name: value for name, value in metrics.items() if "/" not in name}

    folds = sorted(set(table["fold"].to_pylist()))
    return {
        "metrics": measure(table),
        "folds": [measure(table.filter(pc.equal(table["fold"], fold))) for fold in folds],
    }


GOLD = {"classification": "labels", "tagging": "tags", "seq2seq": "target"}


def _sample_errors(task: str, test: pa.Table, own: Predictions) -> list[dict[str, Any]]:
    """Return the first examples, by id, that the model got wrong."""
    if task not in GOLD and task != "qa":
        return []
    errors = []
    order = np.argsort(np.array(test["id"].to_pylist()))
    for index in order.tolist():
        row = test.slice(index, 1).to_pylist()[0]
        gold = [a["text"] for a in row["answers"]] if task == "qa" else row[GOLD[task]]
        predicted = own.items[index]
        right = (
            predicted in gold or (not gold and not predicted) if task == "qa" else predicted == gold
        )
        if not right:
            origin = {key: row[key] for key in SHOWN_ORIGIN}
            errors.append(
                {**origin, "input": _show_input(task, row), "gold": gold, "predicted": predicted}
            )
        if len(errors) == MAX_ERRORS:
            break
    return errors


def _show_input(task: str, row: Mapping[str, Any]) -> str:
    if task == "classification":
        return " / ".join(filter(None, (row["text"], row["text_pair"])))
    if task == "tagging":
        return " ".join(row["words"])
    return str(row["question"] if task == "qa" else row["source"])
