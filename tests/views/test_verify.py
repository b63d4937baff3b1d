"""Damage of every kind is found and named; a sound store is not accused."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.runs.run_records import RunRecord
from tests.views.datasets import Road, walk
from views.verify.verify import find_errors, verify_run

GIVEN = b"{}"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Road:
    return walk(tmp_path_factory.mktemp("road"), count=48)


@pytest.fixture
def road(sound: Road, tmp_path: Path) -> Road:
    """A copy that a test may damage."""
    from infra.compute.cluster import DaskCluster
    from infra.compute.progress import NullReporter
    from infra.dataset.stage import Context
    from infra.store.storage import Storage

    store = tmp_path / "store"
    shutil.copytree(str(sound.storage.local_path()), store)
    ctx = Context(Storage(str(store)), 1, DaskCluster(), NullReporter())
    return Road(ctx, {}, sound.record)


def record_of(road: Road) -> RunRecord:
    assert road.record is not None
    return road.record


def path_of(road: Road, stage: str, name: str) -> Path:
    path = next(item.path for item in record_of(road).stages if item.stage == stage)
    local = road.storage.local_path(f"{path}/{name}")
    assert local is not None
    return local


def test_a_sound_store_is_sound(sound: Road) -> None:
    result = verify_run(sound.storage, record_of(sound))
    assert result.ok
    assert result.findings == []
    assert result.datasets == len(record_of(sound).stages)
    assert result.files > 40
    assert find_errors(sound.storage, record_of(sound)) == []


@pytest.mark.parametrize("name", ["part-00000.parquet", "part-00001.verdicts.parquet"])
def test_a_flipped_byte_is_found_wherever_it_is(road: Road, name: str) -> None:
    path = path_of(road, "select", name)
    data = path.read_bytes()
    for at in (0, 5, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        problems = find_errors(road.storage, record_of(road))
        assert [problem.file.endswith(name) for problem in problems] == [True]
        assert "SHA-256" in problems[0].message


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_flipped_bit_of_a_manifest_is_found(road: Road, data: st.DataObject) -> None:
    path = path_of(road, "select", "manifest.json")
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
    try:
        problems = find_errors(road.storage, record_of(road))
    finally:
        path.write_bytes(whole)
    assert any("select" in problem.file for problem in problems)


def made_inside(road: Road, name: str, *inputs: Dataset, given: bytes = GIVEN) -> Path:
    """A data set as a stage makes it for itself: it has no place in the record."""
    spec = DatasetSpec(Stage(name, ("infra.schemas.quality_rules",)), None, {"k": 1}, inputs)
    units = [WorkUnit(item.content, (item,), item.counts.kept) for item in inputs]
    build_dataset(road.ctx, spec, units, copied, files={} if inputs else {"given.json": given})
    path = road.storage.local_path(spec.folder)
    assert path is not None
    return path


def copied(data: Dataset) -> Iterator[PartResult]:
    table = data.table(["id"])
    yield PartResult(table, ledger_table("x", table["id"].to_pylist()))


def test_data_sets_inside_a_stage_are_looked_at(road: Road) -> None:
    stages = {item.stage: item for item in record_of(road).stages}
    before = verify_run(road.storage, record_of(road)).datasets
    made_inside(road, "sample", stages["select"].open(road.storage))
    (sample,) = [
        open_dataset(road.storage.subdir("sample", f)) for f in road.storage.list_folders("sample")
    ]
    path = made_inside(road, "tokenizer", sample)
    result = verify_run(road.storage, record_of(road))
    assert (result.findings, result.datasets) == ([], before + 2)

    for name in ("part-00000.parquet", "manifest.json"):
        data = (path / name).read_bytes()
        for at in (0, len(data) // 2):
            (path / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            problems = find_errors(road.storage, record_of(road))
            assert {item.file.split("/")[0] for item in problems} == {"tokenizer"}
        (path / name).write_bytes(data)
    (path / "part-00000.verdicts.parquet").unlink()
    assert [item.message for item in find_errors(road.storage, record_of(road))] == ["missing"]


def test_a_tokenizer_that_was_given_is_looked_at(road: Road) -> None:
    before = verify_run(road.storage, record_of(road)).datasets
    given = path_of(road, "tokenize", "part-00000.train.bin").read_bytes()
    path = made_inside(road, "tokenizer", given=given)
    assert verify_run(road.storage, record_of(road)).datasets == before + 1
    (path / "given.json").write_bytes(given[1:])
    assert len(find_errors(road.storage, record_of(road))) == 1


def test_data_sets_inside_the_stages_of_other_runs_are_not(road: Road, tmp_path: Path) -> None:
    before = verify_run(road.storage, record_of(road)).datasets
    other = walk(tmp_path / "other", count=60)
    stages = {item.stage: item for item in record_of(other).stages}
    path = made_inside(road, "sample", stages["select"].open(other.storage))
    (path / "part-00000.parquet").unlink()
    given = made_inside(road, "tokenizer")
    (given / "given.json").unlink()
    result = verify_run(road.storage, record_of(road))
    assert (result.findings, result.datasets) == ([], before)


def test_missing_files_are_named(road: Road) -> None:
    path_of(road, "tokenize", "part-00000.train.bin").unlink()
    path_of(road, "annotate", "manifest.json").unlink()
    files = [problem.file for problem in find_errors(road.storage, record_of(road))]
    assert any(name.endswith("part-00000.train.bin") for name in files)
    assert any(name.startswith("annotate/") and name.endswith("manifest.json") for name in files)


def test_a_shorter_file_says_both_lengths(road: Road) -> None:
    path = path_of(road, "acquire", "part-00000.parquet")
    length = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = find_errors(road.storage, record_of(road))
    assert f"{length - 1} bytes, {length} were committed" in problem.message


def edited(change: Callable[[dict[str, Any]], None], path: Path) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value["counts"].update(kept=1), "documents went in, but 1 kept"),
        (lambda value: value["parts"][0].update(num_rows=7), "the manifest says 7 rows"),
        (lambda value: value["parts"].pop(), "its parts sum to"),
        (lambda value: value["config"].update(made="otherwise"), "what it was made from gives"),
        (lambda value: value["inputs"][0].update(content="0" * 64), "which now is"),
        (lambda value: value.update(fingerprint="0" * 64), "belongs into"),
        (lambda value: value.pop("parts"), "not a manifest"),
        (lambda value: value["stats"].update(more=1), "not the manifest that the run recorded"),
    ],
)
def test_a_manifest_that_lies_is_found(
    road: Road, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    edited(change, path_of(road, "select", "manifest.json"))
    problems = find_errors(road.storage, record_of(road))
    assert any(said in problem.message for problem in problems), [str(item) for item in problems]


def test_a_ledger_that_disagrees_with_counts_is_found(road: Road) -> None:
    def move(value: dict[str, Any]) -> None:
        for counts in (value["counts"], value["parts"][0]["counts"]):
            counts["dropped"]["language"] = counts["dropped"].get("language", 0) + 1
            counts["in"] += 1

    edited(move, path_of(road, "select", "manifest.json"))
    problems = [str(item) for item in find_errors(road.storage, record_of(road))]
    assert any("verdicts.parquet: the ledger says" in item for item in problems)
    assert any("documents went in, but annotate kept" in item for item in problems)


def test_what_a_crash_left_behind_is_only_a_note(road: Road) -> None:
    path_of(road, "select", "part-00009.parquet").write_bytes(b"half")
    result = verify_run(road.storage, record_of(road))
    assert result.ok
    assert [problem.severity for problem in result.findings] == ["warning"]
    assert find_errors(road.storage, record_of(road)) == []
