"""Gates and versions of a real run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.judged import describe_version, is_judged
from flows.steps import STEPS
from infra.registry.history import load_history
from infra.registry.versions import FAILED, HELD, PASSED, load_versions
from infra.removals.log import append_removals
from infra.removals.match import parse_removal
from infra.runs.run_records import RunRecord, save_run
from tests.e2e.command import gristmill, write_recipe
from tests.views.judged_run import champion, judge, load, registry, with_late_as_tiny
from tests.views.real_run import RealRun, recipe_with_suites
from views.removal.exposure import update_exposure
from views.report import build_report


def test_the_first_model_passes_comparisons_by_definition_and_is_promoted(
    run_copy: RealRun,
) -> None:
    version = judge(
        run_copy,
        "bits_per_byte <= 100",
        "bits_per_byte <= champion * 1.005",
        "bits_per_byte not worse",
    )
    assert version.state == PASSED
    assert [item.passed for item in version.gates] == [True, True, True]
    assert all("no champion" in item.note for item in version.gates[1:])
    assert champion(run_copy) == version.number == 1
    assert describe_version(run_copy.storage, version).endswith("is the champion")


def test_the_same_model_and_gates_are_registered_once(run_copy: RealRun) -> None:
    first = judge(run_copy, "bits_per_byte <= 100")
    before = run_copy.storage.list_files("registry")
    assert judge(run_copy, "bits_per_byte <= 100") == first
    assert run_copy.storage.list_files("registry") == before
    assert judge(run_copy, "bits_per_byte <= 99").number == 2, "other gates are another decision"


def test_a_run_with_nothing_to_build_still_judges_what_is_new(run_copy: RealRun) -> None:
    def skips(*gates: str, record: RunRecord, **section: Any) -> bool:
        value = load(run_copy, gates=list(gates), models=["tiny"], **section)
        return is_judged(run_copy.storage, value, record, "score")

    first = run_copy.record
    assert not skips(record=first), "the section `release` is new"
    assert is_judged(run_copy.storage, load(run_copy), first, "evaluate"), "a part of the pipeline"
    version = judge(run_copy, "bits_per_byte  <= 100")
    record = replace(first, versions_registered={"tiny": version.number})
    assert skips("bits_per_byte <= 100", record=record)
    assert not skips("bits_per_byte <= 0.5", record=record)
    assert not skips("bits_per_byte <= 100", record=record, mlflow_registry_uri="sqlite:///m.db")
    assert not skips("bits_per_byte <= 100", "removal.debts none", record=record)
    judge(run_copy, record=with_late_as_tiny(run_copy))
    assert not skips("bits_per_byte <= 100", record=record), "there is another champion"
    assert registry(run_copy, "rollback", "--reason", "x").exit_code == 0
    assert skips("bits_per_byte <= 100", record=record)
    removal = parse_removal("domain", "books.example.net")
    append_removals(run_copy.storage, first.recipe, [removal])
    update_exposure(run_copy.storage, first.recipe, [removal], STEPS)
    assert not skips("bits_per_byte <= 100", record=record), "the model has debts"


@pytest.mark.e2e
def test_a_new_gate_is_judged_although_all_data_sets_exist(
    real_run: RealRun, run_copy: RealRun, tmp_path: Path
) -> None:
    page = build_report(run_copy.storage, run_copy.record, STEPS)
    save_run(run_copy.storage, replace(run_copy.record, report=page))
    value = recipe_with_suites(run_copy.folder, real_run.folder.parent)
    section = {"models": ["tiny"], "gates": ["bits_per_byte <= 0.5"]}
    path = write_recipe(tmp_path / "tiny.yaml", {**value, "release": section})
    result = gristmill(tmp_path / "home", "run", str(path))
    assert (result.code, champion(run_copy)) == (1, None), result.err
    assert "bits_per_byte <= 0.5" in result.err
    [version] = load_versions(run_copy.storage, value["name"])
    assert version.state == FAILED


def test_a_model_is_compared_with_the_champion_over_the_same_items(run_copy: RealRun) -> None:
    judge(run_copy)
    later = with_late_as_tiny(run_copy)
    version = judge(
        run_copy, "bits_per_byte <= champion * 10", "bits_per_byte not worse", record=later
    )
    first, second = version.gates
    assert (version.number, version.champion, first.champion) == (2, 1, 1)
    [tiny] = [m for m in run_copy.record.models if m.name == "tiny"]
    assert first.limit == pytest.approx(10 * tiny.metrics["bits_per_byte"], rel=1e-4)
    assert first.n == second.n == tiny.metrics["documents"]
    assert second.low is not None
    assert second.high is not None
    assert second.low <= second.high


def test_a_missing_metric_is_a_failed_gate(run_copy: RealRun) -> None:
    version = judge(run_copy, "suite.nothing.accuracy >= 0", "suite.nothing.accuracy not worse")
    assert version.state == FAILED
    assert len(version.failed_gates) == 2
    assert champion(run_copy) is None
    assert "nothing" in describe_version(run_copy.storage, version)


def test_a_model_that_fails_is_kept_and_the_champion_stays(run_copy: RealRun) -> None:
    judge(run_copy)
    later = with_late_as_tiny(run_copy)
    assert judge(run_copy, "bits_per_byte <= 0.1", record=later).state == FAILED
    assert champion(run_copy) == 1
    refused = registry(run_copy, "promote", "2", "--reason", "x")
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    forced = registry(run_copy, "promote", "2", "--reason", "known", "--force", "--by", "ann")
    assert forced.exit_code == 0
    assert champion(run_copy) == 2
    assert load_history(run_copy.storage, run_copy.record.recipe)[-1].by == "ann"


def test_a_held_model_waits_for_a_person(run_copy: RealRun) -> None:
    version = judge(run_copy, on_pass="hold")
    assert (version.state, champion(run_copy)) == (HELD, None)
    assert (
        json.loads(registry(run_copy, "list", "--json").stdout)["versions"][0]["alias"]
        == "challenger"
    )
    assert registry(run_copy, "promote", "challenger", "--reason", "read samples").exit_code == 0
    assert champion(run_copy) == 1
    assert judge(run_copy, on_pass="hold") == version, "a run does not undo the decision"
    assert champion(run_copy) == 1


def test_weights_that_were_rolled_back_are_not_promoted_again(run_copy: RealRun) -> None:
    judge(run_copy)
    later = with_late_as_tiny(run_copy)
    assert judge(run_copy, record=later).number == champion(run_copy) == 2
    rolled = registry(run_copy, "rollback", "--reason", "repeats itself")
    assert (rolled.exit_code, champion(run_copy)) == (0, 1)
    assert judge(run_copy, record=later).number == 2
    again = judge(run_copy, "bits_per_byte <= 100", record=later)
    assert again.state == HELD, "the same weights under other gates"
    assert champion(run_copy) == 1


def test_the_champions_weights_are_no_withdrawn_ones(run_copy: RealRun) -> None:
    judge(run_copy)
    assert judge(run_copy, "bits_per_byte <= 100").number == champion(run_copy) == 2
    assert registry(run_copy, "rollback", "--reason", "tried out").exit_code == 0
    assert judge(run_copy).number == champion(run_copy) == 1
    again = judge(run_copy, "bits_per_byte <= 90")
    assert (again.state, champion(run_copy)) == (PASSED, again.number)


def test_a_rejected_model_is_named_and_stays_rejected(run_copy: RealRun) -> None:
    judge(run_copy, on_pass="hold")
    assert registry(run_copy, "reject", "1", "--reason", "license").exit_code == 0
    judge(run_copy, on_pass="hold")
    assert champion(run_copy) is None
    assert "withdrawn" in registry(run_copy, "list").stdout
    assert "license" in registry(run_copy, "list", "--history").stdout


def test_two_versions_are_compared_with_intervals(run_copy: RealRun) -> None:
    judge(run_copy)
    judge(run_copy, record=with_late_as_tiny(run_copy))
    result = json.loads(registry(run_copy, "compare", "tiny", "1", "--json").stdout)
    assert (result["a"], result["b"]) == (2, 1)
    [row] = [item for item in result["metrics"] if item["name"] == "bits_per_byte"]
    assert row["difference"]["low"] <= row["difference"]["value"] <= row["difference"]["high"]
    assert row["answer"] in ("better", "worse", "cannot be told")
    assert registry(run_copy, "compare", "9", "1").exit_code == 1


def test_a_version_that_does_not_exist_is_refused_in_one_line(run_copy: RealRun) -> None:
    judge(run_copy)
    for text in ("7", "challenger", "other@champion", "nobody"):
        result = registry(run_copy, "promote", text, "--reason", "x")
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1


def test_removed_documents_are_debts_that_a_gate_can_demand_paid(run_copy: RealRun) -> None:
    assert judge(run_copy, "removal.debts none").state == PASSED
    removal = parse_removal("domain", "books.example.net")
    append_removals(run_copy.storage, run_copy.record.recipe, [removal])
    update_exposure(run_copy.storage, run_copy.record.recipe, [removal], STEPS)
    version = judge(run_copy, "removal.debts none")
    assert version.state == FAILED
    assert version.gates[0].value is not None
    assert version.gates[0].value > 0
    [debt] = json.loads(registry(run_copy, "debts", "--json").stdout)["debts"][:1]
    assert debt["documents"] == version.gates[0].value
    assert debt["steps"] > 0
    assert "was trained on" in registry(run_copy, "debts").stdout


def test_the_report_shows_the_gates(run_copy: RealRun) -> None:
    version = judge(run_copy, "bits_per_byte <= 100", "bits_per_byte <= 0.1", "a&b <= 1")
    record = replace(run_copy.record, versions_registered={"tiny": version.number})
    page = run_copy.storage.read(build_report(run_copy.storage, record, STEPS)).decode()
    assert 'data-version="1"' in page
    assert page.count('data-passed="false"') == 2
    assert "<code>a&amp;b &lt;= 1</code>" in page
    assert "data-versions" not in page, "there is one version"


def test_metrics_are_shown_by_version(run_copy: RealRun) -> None:
    panel = "suite.panel.bits_per_byte"
    first = judge(run_copy)
    second = judge(run_copy, record=with_late_as_tiny(run_copy))
    values = [
        next(row["value"] for row in version.metrics if row["name"] == panel)
        for version in (first, second)
    ]
    record = replace(run_copy.record, versions_registered={"tiny": second.number})
    page = run_copy.storage.read(build_report(run_copy.storage, record, STEPS)).decode()
    table = page.partition('data-versions="1,2"')[2].partition("</table>")[0]
    row = table.partition(f"<code>{panel}</code>")[2].partition("</tr>")[0]
    assert [f">{value:.4g}</td>" in row for value in values] == [True, True]
    assert "suite.panel.new.bits_per_byte" not in table, "domains have no row"
    listed = registry(run_copy, "list", "--metric", panel).stdout.splitlines()
    assert [line.split()[-1] for line in listed] == [panel, *(f"{x:.4g}" for x in values[::-1])]
    refused = registry(run_copy, "list", "--metric", "suite.panel.bits")
    assert (refused.exit_code, panel in refused.stderr) == (1, True)


def test_every_version_is_listed_by_number(run_copy: RealRun) -> None:
    judge(run_copy)
    judge(run_copy, record=with_late_as_tiny(run_copy))
    listed = json.loads(registry(run_copy, "list", "--json").stdout)["versions"]
    assert [item["number"] for item in listed] == [2, 1]
    assert [v.number for v in load_versions(run_copy.storage, run_copy.record.recipe)] == [1, 2]
