"""Before a run: can this machine do what would be done?"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from flows.metrics_targets import metrics_targets
from flows.planner import Planner
from flows.recipe import Recipe
from flows.steps import (
    EVALUATE,
    FINETUNE,
    MEMORIZATION,
    PREPARE,
    SUITES,
    TOKENIZE,
    TRAIN,
    StageName,
    runs_until,
)
from infra.compute.cluster import WorkerMemoryError, local_workers
from infra.errors import UserError
from infra.log_format import is_json_format
from infra.registry.mlflow_mirror import require_mlflow
from lm.config.loop import RunsOnThisMachine
from lm.config.train import TrainConfig
from lm.launch.preflight import training_errors, training_warnings
from lm.metrics.conditions import parse_condition
from lm.models.registry import trained_package
from tasks.evaluate.gold_sets import load_gold_sets
from tasks.finetune.base import open_released_base
from tasks.finetune.files import load_files
from tasks.release.formats.supported import format_errors
from tasks.suites.items import Suite
from tasks.suites.load import load_suites
from tasks.tokenize.task import load_given_tokenizer


def preflight_errors(
    recipe: Recipe, until: StageName, get_planner: Callable[[], Planner]
) -> list[UserError]:
    """Return what would make the run fail on this machine; each error names its field.

    Models that are trained already require nothing.

    Args:
        recipe: what to make.
        until: the last stage.
        get_planner: returns the plan; called only if there is an error to check against it.
    """
    errors: list[UserError] = []
    if recipe.cluster.workers:
        try:
            local_workers(recipe.cluster)
        except WorkerMemoryError as error:
            errors.append(error)
    if runs_until(TOKENIZE, until):
        try:
            load_given_tokenizer(recipe.tokenize)
        except UserError as error:
            errors.append(error)
    if recipe.evaluate is not None and runs_until(EVALUATE, until):
        try:
            load_gold_sets(recipe.evaluate.word_vectors)
        except UserError as error:
            errors.append(error)
    if runs_until(SUITES, until):
        try:
            errors += _gate_errors(recipe, load_suites(recipe.suites))
        except UserError as error:
            errors.append(error)
    if runs_until(PREPARE, until):
        for entry in recipe.finetune:
            try:
                load_files(entry)
                if entry.base_folder is not None:
                    open_released_base(entry)
            except UserError as error:
                errors.append(error)
    if runs_until(TRAIN, until):
        for model in recipe.models:
            if formats := recipe.formats_of(model.name):
                package = trained_package(model.to_json())
                errors += format_errors(model.name, package, formats, recipe.tokenize.to_json())
    checks: list[Callable[[], object]] = [metrics_targets, is_json_format]
    if recipe.release is not None and recipe.release.mlflow_registry_uri is not None:
        checks.append(require_mlflow)
    for check in checks:
        try:
            check()
        except UserError as error:
            errors.append(error)
    by_model = [
        (name, error)
        for name, entry in _models_to_train(recipe, until)
        for error in training_errors(entry)
    ]
    existing = _existing_models(get_planner()) if by_model else set()
    return [*errors, *(error for name, error in by_model if name not in existing)]


def check_machine(recipe: Recipe, until: StageName, get_planner: Callable[[], Planner]) -> None:
    """Raise the first of the ``preflight_errors``, if there are any."""
    for error in preflight_errors(recipe, until, get_planner):
        raise error


def preflight_warnings(
    recipe: Recipe, until: StageName, gpus: int, get_planner: Callable[[], Planner]
) -> list[str]:
    """Return warnings about training settings that work but are probably not intended.

    Args:
        recipe: what to make.
        until: the last stage.
        gpus: GPUs of this machine.
        get_planner: returns the plan; called only if there is a warning. If it fails, warnings of
            all models are returned: the run itself reports what is wrong with the store.
    """
    cores = os.cpu_count() or 1
    by_model = [
        (name, text)
        for name, entry in _models_to_train(recipe, until)
        for text in training_warnings(entry, cores, gpus)
    ]
    existing: set[str | None] = set()
    if by_model:
        with suppress(UserError, OSError):
            existing = _existing_models(get_planner())
    return [text for name, text in by_model if name not in existing]


def _gate_errors(recipe: Recipe, suites: Sequence[Suite]) -> list[UserError]:
    """Return an error for each gate on a suite that no model is scored on: it would fail after the training."""
    known = [suite.name for suite in suites]
    if recipe.evaluate is not None and recipe.evaluate.memorization is not None:
        known.append(MEMORIZATION.name)
    errors = []
    for number, text in enumerate(recipe.release.gates if recipe.release is not None else ()):
        gate = parse_condition(text)
        for path in (gate.metric, str(gate.reference)):
            first, *rest = path.split(".")
            if first == "suite" and not (rest and rest[0] in known):
                errors.append(
                    UserError(
                        f"release.gates.{number}: {text!r}: {path!r} is of no suite of `evaluate`; suites: "
                        f"{', '.join(known) or 'none'}"
                    )
                )
    return errors


def _models_to_train(recipe: Recipe, until: StageName) -> Sequence[tuple[str, RunsOnThisMachine]]:
    """Return the models that processes of this machine would train, by name, with their entries."""
    models: list[tuple[str, RunsOnThisMachine]] = []
    if runs_until(TRAIN, until):
        models += [(item.name, item) for item in recipe.models if isinstance(item, TrainConfig)]
    if runs_until(FINETUNE, until):
        models += [(item.name, entry) for entry in recipe.finetune for item in entry.expand()]
    return models


def _existing_models(planner: Planner) -> set[str | None]:
    return {
        step.entry
        for step in planner.steps
        if step.stage in (TRAIN.name, FINETUNE.name) and step.dataset is not None
    }
