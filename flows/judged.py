"""What the registry has of a run's models; nothing of it needs Prefect, which takes seconds to import."""

from flows.recipe import Recipe
from flows.steps import LAST_STAGE, StageName
from infra.registry.history import CHAMPION, load_history, model_state
from infra.registry.versions import FAILED, HELD, Version, load_version
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from lm.metrics.conditions import parse_condition
from views.models.gates import describe_failures
from views.models.measurements import DEBTS, count_debts
from views.removal.exposure import load_exposure


def is_judged(storage: Storage, recipe: Recipe, record: RunRecord, until: StageName) -> bool:
    """Whether judging the models of a completed run again, by this recipe's gates, would change nothing.

    Not if a gate is new, a model has debts since, or its champion is another one than it was compared with; nor
    if the registry is mirrored, which each run does anew.
    """
    models = recipe.registered_models if until == LAST_STAGE else ()
    if not models:
        return True
    assert recipe.release is not None
    if recipe.release.mlflow_registry_uri is not None:
        return False
    gates = [parse_condition(text).text for text in recipe.release.gates]
    history = load_history(storage, recipe.name)
    exposure = load_exposure(storage, recipe.name)
    for model in models:
        number = record.versions_registered.get(model)
        if number is None:
            return False
        version, state = load_version(storage, recipe.name, number), model_state(history, model)
        debts = version.metric_values.get(DEBTS)
        if (
            [item.gate for item in version.gates] != gates
            or debts != count_debts(exposure, version.trained)
            or state.champion not in (number, version.champion)
            or number not in state.decided
        ):
            return False
    return True


def describe_versions(storage: Storage, record: RunRecord) -> list[str]:
    """Say in a line each what became of the versions of a run."""
    numbers = record.versions_registered.values()
    versions = [load_version(storage, record.recipe, number) for number in numbers]
    return [describe_version(storage, version) for version in versions]


def describe_version(storage: Storage, version: Version) -> str:
    """Say in a line what became of a version."""
    name = f"{version.model}: version {version.number} of {version.recipe}"
    if version.state == FAILED:
        failed, total = version.failed_gates, len(version.gates)
        return f"{name} fails {len(failed)} of {total} gates: {describe_failures(failed)}"
    state = model_state(load_history(storage, version.recipe), version.model)
    alias = state.alias_of(version.number)
    if alias == CHAMPION:
        return f"{name} is the champion"
    if version.number in state.withdrawn:
        return f"{name} passes its gates, but was withdrawn"
    if version.state == HELD:
        return f"{name} passes its gates and waits: gristmill models promote"
    return f"{name} passes its gates"
