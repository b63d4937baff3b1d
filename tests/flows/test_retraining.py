"""Whether models have to be trained again, decided from the records of the store."""

import json
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.recipe import Recipe
from flows.retraining import (
    TrainingInProgressError,
    compare_with_published,
    explain_retraining,
    find_missing_segments,
    refuse_second_training,
)
from infra.compute.lease import RunLease
from infra.runs.run_records import RunRecord, StageRecord, save_run
from infra.store.storage import Storage
from tests.e2e.corpora import docstrings, recipe, write_jsonl
from tests.inline import go, save_record
from tests.train_entry import train_entry
from views.removal.exposure import ExposureRecord


@pytest.fixture
def value(tmp_path: Path) -> dict[str, Any]:
    write_jsonl(tmp_path / "a.jsonl", list(docstrings()[:30]))
    made = recipe(tmp_path / "data", tmp_path)
    made["sources"][0]["paths"] = [f"{tmp_path}/*.jsonl"]
    made["select"] = {"languages": {}, "quality_filters": [], "pii": "keep"}
    made["train"] = [
        train_entry(name="tiny", num_layers=1, hidden_size=16, num_heads=1, train_tokens=4096)
    ]
    return made


def run(value: dict[str, Any], number: int, until: str = "select") -> RunRecord:
    """Run up to a stage, and save the record as that of the n-th run."""
    record = save_record(value, go(value, until=until))
    record = replace(record, run=f"2026021{number}-120000-000abcd")
    save_run(Storage(value["storage"]), record)
    Storage(value["storage"]).remove(f"runs/{record.recipe}/20260131-120000-000abcd.json")
    return record


def trained(value: dict[str, Any], record: RunRecord) -> RunRecord:
    """Save the record again, as if the run had trained a model."""
    stage: StageRecord = replace(
        record.stages[-1], stage="train", entry="tiny", path="train/tiny-0"
    )
    record = replace(record, stages=[*record.stages, stage])
    save_run(Storage(value["storage"]), record)
    return record


def test_models_are_trained_again_when_enough_of_the_corpus_is_new(
    value: dict[str, Any], tmp_path: Path
) -> None:
    storage, parsed = Storage(value["storage"]), Recipe.model_validate(value)
    first = run(value, 1)
    assert explain_retraining(storage, parsed, first) == "no model is trained yet"
    first = trained(value, first)
    assert explain_retraining(storage, parsed, first) is None
    another = train_entry(
        name="other", num_layers=1, hidden_size=16, num_heads=1, train_tokens=4096
    )
    two = Recipe.model_validate({**value, "train": [*value["train"], another]})
    assert explain_retraining(storage, two, first) == "model other is not trained yet"

    write_jsonl(tmp_path / "b.jsonl", list(docstrings()[30:32]))
    second = run(value, 2)
    change = compare_with_published(storage, second)
    assert change is not None
    assert (change.documents, change.new_documents, change.removed_documents) == (32, 2, 0)
    assert explain_retraining(storage, parsed, second) is None, "2 of 32 are less than 10 %"
    write_jsonl(tmp_path / "c.jsonl", list(docstrings()[32:34]))
    third = run(value, 3)
    change = compare_with_published(storage, third)
    assert change is not None
    assert change.new_documents == 2, "since the corpus before"
    reason = explain_retraining(storage, parsed, third)
    assert reason is not None
    assert "4 of 34" in reason, "since the training"
    never = Recipe.model_validate({**value, "retrain": {"min_new_fraction": 0.5}})
    assert explain_retraining(storage, never, third) is None


def test_a_corpus_that_was_deleted_is_compared_by_its_record(
    value: dict[str, Any], tmp_path: Path
) -> None:
    storage, parsed = Storage(value["storage"]), Recipe.model_validate(value)
    first = trained(value, run(value, 1))
    write_jsonl(tmp_path / "b.jsonl", list(docstrings()[30:36]))
    second = run(value, 2)
    storage.remove(f"{first.stages[-2].path}/manifest.json")
    reason = explain_retraining(storage, parsed, second)
    assert reason is not None
    assert "6 of 36" in reason


def test_a_corpus_is_outdated_until_it_has_all_segments(
    value: dict[str, Any], tmp_path: Path
) -> None:
    storage = Storage(value["storage"])
    refreshed = run(value, 1, "acquire")
    assert [s.source for s in find_missing_segments(storage, refreshed)] == ["dump"]
    built = run(value, 2)
    assert find_missing_segments(storage, built) == []
    again = run(value, 3, "acquire")
    assert find_missing_segments(storage, again) == []
    write_jsonl(tmp_path / "b.jsonl", list(docstrings()[30:32]))
    assert len(find_missing_segments(storage, run(value, 4, "acquire"))) == 1


def test_of_two_trainings_the_later_one_is_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    first = RunLease(storage, "wiki", "20260131-120000-000aaaa", trains=True)
    other = RunLease(storage, "books", "20260131-120000-000aaab", trains=True)
    second = RunLease(storage, "wiki", "20260131-120000-001bbbb", trains=True)
    try:
        refuse_second_training(storage, "wiki", "20260131-120000-000aaaa")
        with pytest.raises(TrainingInProgressError):
            refuse_second_training(storage, "wiki", "20260131-120000-001bbbb")
        first.close(completed=False)
        refuse_second_training(storage, "wiki", "20260131-120000-001bbbb")
    finally:
        other.close(completed=True)
        second.close(completed=True)


@pytest.mark.parametrize(("silent_s", "counts"), [(60, True), (200, False)])
def test_a_training_on_a_lost_machine_counts_for_three_minutes(
    tmp_path: Path, silent_s: float, *, counts: bool
) -> None:
    storage, run_id = Storage(str(tmp_path)), "20260131-120000-000aaaa"
    lease = RunLease(storage, "wiki", run_id, trains=True)
    name = f"runs/wiki/leases/{run_id}.lease"
    elsewhere = json.loads(storage.read(name))
    lease.close(completed=True)
    elsewhere |= {"host": "elsewhere", "renewed": time.time() - silent_s}
    storage.write(name, json.dumps(elsewhere).encode())
    with pytest.raises(TrainingInProgressError) if counts else nullcontext():
        refuse_second_training(storage, "wiki", "20260131-120000-001bbbb")


def test_a_removal_that_touches_the_newest_models_is_a_reason(
    value: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, parsed = Storage(value["storage"]), Recipe.model_validate(value)
    record = trained(value, run(value, 1))

    def expose(path: str, documents: int) -> None:
        exposure = ExposureRecord("tiny", path, "f", "r", documents)
        monkeypatch.setattr("flows.retraining.load_exposure", lambda *_: [exposure])

    expose("train/older", 3)
    assert explain_retraining(storage, parsed, record) is None, "an earlier model"
    expose("train/tiny-0", 0)
    assert explain_retraining(storage, parsed, record) is None
    expose("train/tiny-0", 3)
    reason = explain_retraining(storage, parsed, record)
    assert reason is not None
    assert "removed" in reason
    ignored = Recipe.model_validate({**value, "retrain": {"on_removal": False}})
    assert explain_retraining(storage, ignored, record) is None
