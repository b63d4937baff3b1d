"""Cross-validation: each training example is predicted by a model that did not see it."""

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.finetune.cross_validation import PREDICTIONS_FILE
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
    table = pq.read_table(io.BytesIO(model.read(PREDICTIONS_FILE))).to_pylist()
    trained = [row for row in examples.table().to_pylist() if row["split"] == "train"]
    assert {row["id"]: row["fold"] for row in table} == {r["id"]: r["fold"] for r in trained}
    assert len(table) == len(trained)
    right = sum(row["labels"] == row["predicted"] for row in table) / len(table)
    metrics = model.stats["cross_validation"]["metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx(right)
    assert right > 0.9
    assert len(model.stats["cross_validation"]["folds"]) == 2
