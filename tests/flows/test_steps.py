"""The list of steps: consistent in itself, and the only one."""

import importlib

import pytest

from flows.steps import EVALUATE, RELEASE, STAGE_NAMES, STEPS, runs_until
from infra.dataset.step import Step


def test_a_step_reads_only_earlier_steps() -> None:
    names = [step.name for step in STEPS]
    assert len(set(names)) == len(names)
    for index, step in enumerate(STEPS):
        assert set(step.inputs) <= set(names[:index]), step.name
        assert set(step.counts_from) <= set(step.inputs), step.name


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_has_the_name_of_its_folder(step: Step[...]) -> None:
    module = importlib.import_module(f"tasks.{step.name}.task")
    assert (module.spec, module.build) == (step.spec, step.build)


def test_a_run_includes_the_steps_up_to_its_last_stage() -> None:
    for index, until in enumerate(STAGE_NAMES):
        included = [step.name for step in STEPS if runs_until(step, until)]
        assert [name for name in included if name in STAGE_NAMES] == list(STAGE_NAMES[: index + 1])
    assert runs_until(RELEASE, "train")
    assert not runs_until(RELEASE, "tokenize")
    assert not runs_until(EVALUATE, "train")
