"""Run records: round trip, order, lookups across runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.dataset.dataset import Counts
from infra.errors import UserError
from infra.runs.run_records import (
    NoRun,
    RunRecord,
    StageRecord,
    all_recipes,
    built_seconds,
    latest,
    load,
    new_run_id,
    run_ids,
    save,
    versions,
)
from infra.store.storage import Storage
from tests.views.datasets import walk


def stage(fingerprint: str, *, cached: bool, built: float | None) -> StageRecord:
    counts = Counts(3, 1, {"short": 1}, {"broken": 1})
    return StageRecord(
        "annotate",
        "site",
        None,
        f"annotate/site-{fingerprint}",
        fingerprint,
        counts,
        12,
        0.1,
        cached,
        built,
        "0" * 64,
    )


def record(recipe: str, run: str, *stages: StageRecord) -> RunRecord:
    return RunRecord(
        recipe, run, "2026-01-31T12:00:00+00:00", 3.0, "completed", stages=list(stages)
    )


def test_a_record_survives_the_round_trip(tmp_path: Path) -> None:
    road = walk(tmp_path, until="select", count=48)
    assert road.record is not None
    again = load(road.storage, "quickstart", road.record.run)
    assert again == road.record
    first = again.to_json()["stages"][0]
    assert first["path"].startswith("acquire/library-")
    assert first["in"] == first["kept"] + sum(first["dropped"].values())
    assert again.stages[0].open(road.storage).fingerprint == again.stages[0].fingerprint


def test_the_stages_label_names_source_or_model() -> None:
    own = stage("a", cached=False, built=1.0)
    assert own.label == "annotate site"
    assert replace(own, stage="train", source=None, entry="tiny").label == "train tiny"


def test_run_ids_sort_by_time() -> None:
    begin = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    ids = [new_run_id(begin + timedelta(milliseconds=step * 333)) for step in range(20)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 20


def test_the_newest_run_is_found_by_recipe_or_over_all(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for recipe, run in (("one", "20260101"), ("two", "20260102"), ("one", "20260103")):
        save(storage, record(recipe, run))
    assert latest(storage).run == "20260103"
    assert latest(storage, "two").run == "20260102"
    assert all_recipes(storage) == ["one", "two"]
    assert run_ids(storage, "one") == ["20260101", "20260103"]


def test_no_run_is_a_sentence_that_names_what_is_there(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(NoRun, match="no run yet"):
        latest(storage)
    save(storage, record("one", "20260101"))
    with pytest.raises(NoRun, match="there are runs of one"):
        latest(storage, "two")
    with pytest.raises(UserError):
        load(storage, "one", "20250101")
    storage.put("runs/one/20270101.json", b"{}")
    with pytest.raises(NoRun, match=r"20270101\.json"):
        latest(storage, "one")


def test_the_time_it_took_to_build_is_looked_up(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    save(storage, record("one", "20260101", stage("aa", cached=False, built=9.0)))
    save(storage, record("one", "20260102", stage("bb", cached=False, built=2.0)))
    save(storage, record("two", "20260103", stage("cc", cached=True, built=None)))
    assert built_seconds(storage, "one", "aa") == 9.0
    assert built_seconds(storage, "two", "bb") == 2.0
    assert built_seconds(storage, "one", "cc") is None


def test_versions_name_python_and_what_is_installed() -> None:
    found = versions()
    assert found["python"].count(".") == 2
    assert "pyarrow" in found
