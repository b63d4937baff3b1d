"""Run records: round trip, order, lookups across runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.dataset.manifest import Counts
from infra.errors import UserError
from infra.runs.run_records import (
    ModelRecord,
    RunNotFoundError,
    RunRecord,
    StageRecord,
    collect_versions,
    find_built_seconds,
    latest_run,
    list_recipes,
    list_run_ids,
    load_run,
    new_run_id,
    save_run,
)
from infra.store.storage import Storage


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
    storage = Storage(str(tmp_path))
    models = [ModelRecord("tiny", "train/tiny-0", None, "evaluate/tiny-0", {"bits_per_byte": 2.1})]
    saved = replace(record("one", "20260101", stage("aa", cached=False, built=9.0)), models=models)
    save_run(storage, saved)
    assert load_run(storage, "one", "20260101") == saved
    first = saved.to_json()["stages"][0]
    assert (first["in"], first["kept"], first["dropped"], first["failed"]) == (
        3,
        1,
        {"short": 1},
        {"broken": 1},
    )


def test_the_stages_label_names_source_or_model() -> None:
    own = stage("a", cached=False, built=1.0)
    assert own.label == "annotate site"
    assert replace(own, stage="train", source=None, entry="tiny").label == "train tiny"


def test_run_ids_sort_by_time(tmp_path: Path) -> None:
    storage, begin = Storage(str(tmp_path)), datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    ids = [new_run_id(storage, begin + timedelta(milliseconds=step * 333)) for step in range(20)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 20


def test_a_clock_that_is_behind_does_not_hide_a_run(tmp_path: Path) -> None:
    storage, now = Storage(str(tmp_path)), datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    ids = []
    for minutes in (45, 0, -30, 60):  # the clocks of several machines
        ids.append(new_run_id(storage, now + timedelta(minutes=minutes)))
        save_run(storage, record("one", ids[-1]))
        assert latest_run(storage, "one").run == ids[-1]
    assert ids == sorted(ids)
    assert ids[3].startswith("20260131-130000-000")


def test_the_newest_run_is_found_by_recipe_or_over_all(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for recipe, run in (("one", "20260101"), ("two", "20260102"), ("one", "20260103")):
        save_run(storage, record(recipe, run))
    assert latest_run(storage).run == "20260103"
    assert latest_run(storage, "two").run == "20260102"
    assert list_recipes(storage) == ["one", "two"]
    assert list_run_ids(storage, "one") == ["20260101", "20260103"]


def test_a_missing_run_lists_the_recipes_that_have_one(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(RunNotFoundError, match="no run yet"):
        latest_run(storage)
    save_run(storage, record("one", "20260101"))
    with pytest.raises(RunNotFoundError, match="one"):
        latest_run(storage, "two")
    with pytest.raises(UserError):
        load_run(storage, "one", "20250101")
    storage.write("runs/one/20270101.json", b"{}")
    with pytest.raises(RunNotFoundError, match=r"20270101\.json"):
        latest_run(storage, "one")


def test_the_time_it_took_to_build_is_looked_up(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    save_run(storage, record("one", "20260101", stage("aa", cached=False, built=9.0)))
    save_run(storage, record("one", "20260102", stage("bb", cached=False, built=2.0)))
    save_run(storage, record("two", "20260103", stage("cc", cached=True, built=None)))
    assert find_built_seconds(storage, "one", "aa") == 9.0
    assert find_built_seconds(storage, "two", "bb") == 2.0
    assert find_built_seconds(storage, "one", "cc") is None


def test_versions_name_python_and_what_is_installed() -> None:
    found = collect_versions()
    assert found["python"].count(".") == 2
    assert "pyarrow" in found
