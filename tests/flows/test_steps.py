"""The list of steps: consistent in itself, and the only one."""

import ast
import importlib
from pathlib import Path

import pytest

from flows.steps import EVALUATE, FINETUNE, RELEASE, STAGE_NAMES, STEPS, runs_until
from infra.dataset.step import Step


def test_a_step_reads_only_earlier_steps() -> None:
    names = [step.name for step in STEPS]
    assert len(set(names)) == len(names)
    for index, step in enumerate(STEPS):
        later = {FINETUNE.name} if step is RELEASE else set()  # both kinds of models are released
        assert set(step.inputs) <= set(names[:index]) | later, step.name
        assert set(step.counts_from) <= set(step.inputs), step.name


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_has_the_name_of_its_folder(step: Step[...]) -> None:
    # Three steps make what an entry of `finetune` describes; they share the folder of one of them.
    shares_folder = step.name in {"prepare", "score"}
    name = f"finetune.{step.name}_task" if shares_folder else f"{step.name}.task"
    module = importlib.import_module(f"tasks.{name}")
    assert (module.spec, module.build) == (step.spec, step.build)


def test_a_run_includes_the_steps_up_to_its_last_stage() -> None:
    for index, until in enumerate(STAGE_NAMES):
        included = [step.name for step in STEPS if runs_until(step, until)]
        assert [name for name in included if name in STAGE_NAMES] == list(STAGE_NAMES[: index + 1])
    assert runs_until(RELEASE, "train")
    assert not runs_until(RELEASE, "tokenize")
    assert not runs_until(EVALUATE, "train")


def test_no_other_file_lists_stages() -> None:
    names = {step.name for step in STEPS}
    root = Path(__file__).parents[2]
    lists = []
    for package in ("cli", "flows", "views", "serve", "tasks", "lm", "infra"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                        values = items
                    case ast.Dict(keys=keys):
                        values = [key for key in keys if key is not None]
                    case _:
                        continue
                strings = {item.value for item in values if isinstance(item, ast.Constant)}
                if len(strings & names) > 1:
                    lists.append(f"{path.relative_to(root)}:{node.lineno}")
    assert [item for item in lists if not item.startswith("flows/steps.py:")] == []
