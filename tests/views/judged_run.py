"""The real run with its models judged by gates, and the commands of the registry."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml
from click.testing import CliRunner, Result

from cli.models import models
from flows.gates import judge_model
from flows.recipe import Recipe
from infra.registry.history import load_history, model_state
from infra.registry.versions import Version
from infra.runs.run_records import RunRecord
from tests.views.real_run import RealRun, recipe


def load(run: RealRun, **section: Any) -> Recipe:
    """The recipe of the run, with a section `release`, as the commands read it."""
    value = {**recipe(run.folder, run.folder / "sources"), "release": section}
    (run.folder / "recipe.yaml").write_text(yaml.safe_dump(value))
    return Recipe.model_validate(value)


def judge(run: RealRun, *gates: str, record: RunRecord | None = None, **section: Any) -> Version:
    """Judge the model ``tiny`` of a run."""
    value = load(run, gates=list(gates), **section)
    version, _ = judge_model(run.storage, value, record or run.record, "tiny")
    return version


def with_late_as_tiny(run: RealRun) -> RunRecord:
    """A later run, whose model ``tiny`` is the other model of the run."""
    stages = [stage for stage in run.record.stages if stage.entry != "tiny"]
    stages = [replace(stage, entry="tiny") if stage.entry == "late" else stage for stage in stages]
    return replace(run.record, run="29990101-000000-000aaaa", stages=stages)


def call(run: RealRun, command: Any, arguments: Sequence[str]) -> Result:
    return CliRunner().invoke(command, [*arguments])


def registry(run: RealRun, name: str, *arguments: str) -> Result:
    """Call a command of ``gristmill models``."""
    return call(run, models, [name, str(run.folder / "recipe.yaml"), *arguments])


def champion(run: RealRun) -> int | None:
    return model_state(load_history(run.storage, run.record.recipe), "tiny").champion
