"""``gristmill models``: what a run trained, beside the models before it, and gates."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cli.models import EXIT_GATE_FAILED, models
from flows.steps import STEPS
from infra.runs.run_records import FAILED, ModelRecord, StageRecord, save_run
from lm.metrics.conditions import ConditionError, parse_condition
from tests.views.real_run import RealRun, recipe
from views.models.comparison import compare_models


@pytest.fixture
def retrained(run_copy: RealRun) -> RealRun:
    """The run with an earlier one before it, in which the model ``tiny`` was another, better one."""
    old = replace(run_copy.record.models[0], train="train/tiny-other", evaluate=None)
    better = {**old.metrics, "bits_per_byte": old.metrics["bits_per_byte"] / 2}
    earlier = [replace(old, metrics=better), ModelRecord("late", run_copy.record.models[1].train)]
    before = replace(run_copy.record, run="20200101-000000-000aaaa", models=earlier)
    save_run(run_copy.storage, before)
    return run_copy


def call(run: RealRun, *arguments: str) -> Result:
    """Call the command."""
    path = run.folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(run.folder, run.folder / "sources")))
    return CliRunner().invoke(models, [str(path), *arguments])


def call_json(run: RealRun, *arguments: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(call(run, *arguments, "--json").stdout)
    return value


def test_a_model_is_shown_beside_the_one_before_it(retrained: RealRun) -> None:
    tiny, late = call_json(retrained)["models"]
    assert tiny["trained"]
    assert tiny["previous"]["bits_per_byte"] == tiny["metrics"]["bits_per_byte"] / 2
    assert late["previous"] is None, "the earlier run had the same weights"
    assert call(retrained).stdout.count("+100.0 %") == 1


def test_a_failing_gate_has_its_own_exit_status(retrained: RealRun) -> None:
    passing = call(retrained, "--require", "bits_per_byte <= previous * 2.1")
    failing = call(retrained, "--require", "bits_per_byte <= previous * 1.9", "--markdown")
    assert (passing.exit_code, failing.exit_code) == (0, EXIT_GATE_FAILED)
    assert "| FAILED |" in failing.stdout


def test_the_models_of_a_failed_run_pass_no_gate(run_copy: RealRun) -> None:
    failed = replace(run_copy.record, run="29990101-000000-000aaaa", state=FAILED, error="full")
    save_run(run_copy.storage, failed)
    assert call(run_copy, "--require", "bits_per_byte < 1000").exit_code == EXIT_GATE_FAILED
    assert call(run_copy).exit_code == 0


def test_a_run_is_found_by_its_reason(run_copy: RealRun) -> None:
    later = replace(run_copy.record, run="29990101-000000-000aaaa", reason="another commit")
    save_run(run_copy.storage, replace(run_copy.record, reason="commit 1"))
    save_run(run_copy.storage, later)
    assert call_json(run_copy, "--reason", "commit 1")["run"] == run_copy.record.run
    assert call(run_copy, "--reason", "commit 2").exit_code == 1


def test_a_run_that_trained_nothing_says_so(run_copy: RealRun) -> None:
    def cached(stage: StageRecord) -> StageRecord:
        return replace(stage, cached=True)

    record = replace(run_copy.record, stages=[cached(stage) for stage in run_copy.record.stages])
    comparison = compare_models(run_copy.storage, record, STEPS)
    assert [model.is_new for model in comparison.models] == [False, False]
    assert comparison.headline.startswith("No model was trained")


def test_a_condition_on_models_that_were_not_evaluated_is_refused(run_copy: RealRun) -> None:
    condition = [parse_condition("bits_per_byte < 3")]
    unrated = [replace(model, metrics={}, evaluate=None) for model in run_copy.record.models]
    record = replace(run_copy.record, models=unrated)
    with pytest.raises(ConditionError):
        compare_models(run_copy.storage, record, STEPS, condition)
    assert call(run_copy, "--require", "loss < 3").exit_code == 1
