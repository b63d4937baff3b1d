"""Mirror the registry to an MLflow registry, for tools that look there.

The registry in the store decides; the mirror is made equal to it each time, so what it missed while it was away is
made up for. A model ``tiny`` of the recipe ``web`` is the registered model ``web.tiny``. Numbers of versions are
MLflow's own: the tag ``gristmill.version`` has ours.
"""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING

from infra.errors import UserError
from infra.registry.history import ALIASES, load_history, model_state
from infra.registry.versions import Version, load_versions
from infra.store.environment import mask
from infra.store.storage import Storage

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

VERSION_TAG = "gristmill.version"
TIMEOUT_S = 60.0  # that a run or a command waits for the server


def require_mlflow() -> None:
    """Raise ``UserError`` if the package is missing."""
    if find_spec("mlflow") is None:
        raise UserError(
            "release.mlflow_registry_uri: mlflow is not installed; run pip install 'gristmill[mlflow]'"
        )


def mirror_registry(storage: Storage, recipe: str, uri: str) -> bool:
    """Make an MLflow registry equal to that of a recipe.

    Returns:
        Whether it is; otherwise a warning was logged, and the next call makes up for it.
    """
    problem = ["it does not answer"]

    def work() -> None:
        try:
            _mirror(storage, recipe, uri)
            problem.clear()
        except Exception as error:  # noqa: BLE001 - the registry in the store has everything
            problem[:] = [f"{type(error).__name__}: {' '.join(str(error).split())}"]

    thread = Thread(target=work, name="mlflow-registry", daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    if not problem:
        return True
    log.warning(
        "the MLflow registry at %s was not updated: %s; the next run or move makes up for it",
        mask(uri),
        mask(problem[0]),
    )
    return False


def _mirror(storage: Storage, recipe: str, uri: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    history = load_history(storage, recipe)
    by_model: dict[str, list[Version]] = {}
    for version in load_versions(storage, recipe):
        by_model.setdefault(version.model, []).append(version)
    for model, versions in by_model.items():
        numbers = _mirror_versions(client, storage, f"{recipe}.{model}", versions)
        _mirror_aliases(client, f"{recipe}.{model}", model_state(history, model).aliases, numbers)


def _mirror_versions(
    client: "MlflowClient", storage: Storage, name: str, versions: list[Version]
) -> dict[int, str]:
    """Create what is missing; return MLflow's numbers by ours."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    known = client.search_model_versions(f"name = '{name}'")
    numbers = {
        int(item.tags[VERSION_TAG]): str(item.version) for item in known if VERSION_TAG in item.tags
    }
    for version in versions:
        if version.number in numbers:
            continue
        created = client.create_model_version(
            name,
            source=mask(f"{storage.url.rstrip('/')}/{version.export}"),
            tags={
                VERSION_TAG: str(version.number),
                "gristmill.state": version.state,
                "gristmill.weights": version.weights,
                "gristmill.run": version.run,
                "gristmill.gates": f"{len(version.gates) - len(version.failed_gates)} of "
                f"{len(version.gates)} passed",
            },
        )
        numbers[version.number] = str(created.version)
    return numbers


def _mirror_aliases(
    client: "MlflowClient", name: str, aliases: Mapping[str, int], numbers: Mapping[int, str]
) -> None:
    current = {
        alias: str(number)
        for alias, number in client.get_registered_model(name).aliases.items()
        if alias in ALIASES
    }
    for alias in ALIASES:
        wanted = numbers.get(aliases[alias]) if alias in aliases else None
        if wanted == current.get(alias):
            continue
        if wanted is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, wanted)
