"""Cross-validation: each training example is predicted by a model that did not see it."""

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.schemas.examples import OUT_OF_FOLD_FILE
from tasks.finetune.score import summarize_folds
from tests.finetune.planted_tasks import planted
from tests.finetune.tiny_runs import ENCODER, TinyStore, entry, variant, write_jsonl


@pytest.mark.usefixtures("in_process")
def test_every_training_example_is_predicted_once(tmp_path: Path) -> None:
    store = TinyStore(tmp_path)
    rows, _ = planted("classification", 120)
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    item = entry("classification", path, folds=2, optim__epochs=30, optim__dropout=0.0)
    examples = store.prepare(item)
    model = store.finetune(variant(item), examples, store.base(**ENCODER))
    rows = pq.read_table(io.BytesIO(model.read(OUT_OF_FOLD_FILE)))
    table = rows.to_pylist()
    trained = [row for row in examples.table().to_pylist() if row["split"] == "train"]
    assert {row["id"]: row["fold"] for row in table} == {r["id"]: r["fold"] for r in trained}
    assert len(table) == len(trained)
    right = sum(row["labels"] == row["predicted"] for row in table) / len(table)
    summary = summarize_folds(rows, ["bad", "good"], seed=1)
    assert summary["metrics"]["accuracy"]["value"] == pytest.approx(right)
    assert right > 0.9
    assert len(summary["folds"]) == 2
