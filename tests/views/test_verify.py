"""Damage of every kind is found and named; an undamaged store passes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.steps import STEPS
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from tests.views.real_run import RealRun
from views.verify.verify import ERROR, Finding, verify_run

GIVEN = b"{}"


def errors(run: RealRun) -> list[Finding]:
    findings = verify_run(run.storage, run.record, STEPS).findings
    return [finding for finding in findings if finding.severity == ERROR]


def test_an_undamaged_store_passes(real_run: RealRun) -> None:
    result = verify_run(real_run.storage, real_run.record, STEPS)
    assert result.ok
    assert result.findings == []
    assert result.datasets > len(real_run.record.stages), "those that stages made for themselves"
    assert result.files > 40


@pytest.mark.parametrize("name", ["part-00000.parquet", "part-00001.verdicts.parquet"])
def test_a_flipped_byte_is_found_wherever_it_is(run_copy: RealRun, name: str) -> None:
    path = run_copy.path("select") / name
    data = path.read_bytes()
    for at in (0, 5, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        findings = errors(run_copy)
        assert [finding.file.endswith(name) for finding in findings] == [True]
        assert "SHA-256" in findings[0].message


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_flipped_bit_of_a_manifest_is_found(run_copy: RealRun, data: st.DataObject) -> None:
    path = run_copy.path("select") / "manifest.json"
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
    try:
        findings = errors(run_copy)
    finally:
        path.write_bytes(whole)
    assert any("select" in finding.file for finding in findings)


def build_internal(run: RealRun, name: str, *inputs: Dataset, given: bytes = GIVEN) -> Path:
    """Build a data set as a stage does for its own use: no record names it."""
    spec = DatasetSpec(Stage(name, ("infra.schemas.quality_rules",)), None, {"k": 1}, inputs)
    units = [WorkUnit(item.content, (item,), item.counts.kept) for item in inputs]
    files = {} if inputs else {"given.json": given}
    build_dataset(run.context, spec, units, copy_ids, files=files)
    path = run.storage.local_path(spec.folder)
    assert path is not None
    return path


def copy_ids(data: Dataset) -> Iterator[PartResult]:
    table = data.table(["id"])
    yield PartResult(table, ledger_table("x", table["id"].to_pylist()))


def test_data_sets_for_internal_use_are_checked(run_copy: RealRun) -> None:
    before = verify_run(run_copy.storage, run_copy.record, STEPS).datasets
    build_internal(run_copy, "internal", run_copy.dataset("select"))
    (folder,) = run_copy.storage.list_folders("internal")
    path = build_internal(
        run_copy, "derived", open_dataset(run_copy.storage.subdir("internal", folder))
    )
    result = verify_run(run_copy.storage, run_copy.record, STEPS)
    assert (result.findings, result.datasets) == ([], before + 2)

    for name in ("part-00000.parquet", "manifest.json"):
        data = (path / name).read_bytes()
        for at in (0, len(data) // 2):
            (path / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            assert {item.file.split("/")[0] for item in errors(run_copy)} == {"derived"}
        (path / name).write_bytes(data)
    (path / "part-00000.verdicts.parquet").unlink()
    assert [item.message for item in errors(run_copy)] == ["missing"]


def test_a_tokenizer_that_the_recipe_provides_is_checked(run_copy: RealRun) -> None:
    before = verify_run(run_copy.storage, run_copy.record, STEPS).datasets
    given = (run_copy.path("tokenize") / "part-00000.train.bin").read_bytes()
    path = build_internal(run_copy, "provided", given=given)
    assert verify_run(run_copy.storage, run_copy.record, STEPS).datasets == before + 1
    (path / "given.json").write_bytes(given[1:])
    assert len(errors(run_copy)) == 1


def test_internal_data_sets_of_other_runs_are_not_checked(
    run_copy: RealRun, tmp_path: Path
) -> None:
    before = verify_run(run_copy.storage, run_copy.record, STEPS).datasets
    other = RealRun(tmp_path / "other", run_copy.record)
    table = pa.table({"id": ["0" * 32]})
    spec = DatasetSpec(Stage("select", ("infra.schemas.quality_rules",)), None, {"other": 1})
    unit = WorkUnit("0", (table,))
    corpus = build_dataset(other.context, spec, [unit], emit)
    path = build_internal(run_copy, "internal", corpus)
    (path / "part-00000.parquet").unlink()
    provided = build_internal(run_copy, "provided")
    (provided / "given.json").unlink()
    result = verify_run(run_copy.storage, run_copy.record, STEPS)
    assert (result.findings, result.datasets) == ([], before)


def emit(table: pa.Table) -> Iterator[PartResult]:
    yield PartResult(table, ledger_table("select", table["id"].to_pylist()))


def test_missing_files_are_named(run_copy: RealRun) -> None:
    (run_copy.path("annotate") / "manifest.json").unlink()
    (run_copy.path("tokenize") / "part-00000.train.bin").unlink()
    files = [finding.file for finding in errors(run_copy)]
    assert any(name.endswith("part-00000.train.bin") for name in files)
    assert any(name.startswith("annotate/") and name.endswith("manifest.json") for name in files)


def test_a_shorter_file_is_reported_with_both_lengths(run_copy: RealRun) -> None:
    path = run_copy.path("extract") / "part-00000.parquet"
    length = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    (finding,) = errors(run_copy)
    assert f"{length - 1} bytes" in finding.message
    assert str(length) in finding.message


def edited(change: Callable[[dict[str, Any]], None], path: Path) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value["counts"].update(kept=1), "counts in"),
        (lambda value: value["parts"][0].update(num_rows=7), "the manifest has 7 rows"),
        (lambda value: value["parts"].pop(), "its parts sum to"),
        (lambda value: value["config"].update(changed=1), "its inputs give"),
        (lambda value: value["inputs"][0].update(content="0" * 64), "which now is"),
        (lambda value: value.update(fingerprint="0" * 64), "belongs in"),
        (lambda value: value.pop("parts"), "not a manifest"),
        (lambda value: value["stats"].update(more=1), "not the manifest that the run recorded"),
    ],
)
def test_a_changed_manifest_is_found(
    run_copy: RealRun, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edited(change, run_copy.path("select") / "manifest.json")
    findings = errors(run_copy)
    assert any(message in finding.message for finding in findings), list(map(str, findings))


def test_counts_that_the_next_stage_does_not_take_in_are_found(run_copy: RealRun) -> None:
    edited(lambda value: value["counts"].update(kept=1), run_copy.path("select") / "manifest.json")
    assert any("select kept 1" in finding.message for finding in errors(run_copy))


def test_a_ledger_that_disagrees_with_the_counts_is_found(run_copy: RealRun) -> None:
    def move(value: dict[str, Any]) -> None:
        for counts in (value["counts"], value["parts"][0]["counts"]):
            counts["dropped"]["language"] = counts["dropped"].get("language", 0) + 1
            counts["in"] += 1

    edited(move, run_copy.path("select") / "manifest.json")
    findings = [str(item) for item in errors(run_copy)]
    assert any("verdicts.parquet: the ledger has" in item for item in findings)
    assert any("documents went in, but annotate kept" in item for item in findings)


def test_what_a_crash_left_behind_is_only_a_warning(run_copy: RealRun) -> None:
    (run_copy.path("select") / "part-00009.parquet").write_bytes(b"half")
    result = verify_run(run_copy.storage, run_copy.record, STEPS)
    assert result.ok
    assert [finding.severity for finding in result.findings] == ["warning"]
