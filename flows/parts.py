"""The flows of parts of the pipeline, which deployments start.

Committed data sets are taken from the store, so ``retrain`` after ``corpus`` only tokenizes, trains and
evaluates. Only ``refresh`` and ``flows.pipeline`` look at the sources again; the others take each source's
newest segment, and read a source only if it was never acquired with the recipe's settings.
"""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.attempts import TIMEOUT_S, run_with_retries
from flows.pipeline import ON_DEMAND, Reason
from flows.recipe import Recipe
from flows.removal_form import RemovalForm
from flows.runner import run_pipeline, task_runner
from flows.steps import ACQUIRE, LAST_STAGE, MEMORIZATION, SELECT, TOKENIZE
from infra.removals.log import append_removals
from infra.store.storage import Storage


@flow(
    name="refresh",
    flow_run_name="refresh {recipe.name}: {reason}",
    task_runner=task_runner(),
    timeout_seconds=TIMEOUT_S,
)
def refresh(recipe: Recipe, reason: Reason = ON_DEMAND) -> dict[str, Any]:
    """Crawl the sites that are due and read the files that changed."""
    return run_with_retries(lambda: run_pipeline(recipe, ACQUIRE.name, reason=reason))


@flow(
    name="corpus",
    flow_run_name="corpus {recipe.name}: {reason}",
    task_runner=task_runner(),
    timeout_seconds=TIMEOUT_S,
)
def corpus(recipe: Recipe, reason: Reason = ON_DEMAND) -> dict[str, Any]:
    """Build the corpus from the newest segment of every source."""
    return run_with_retries(
        lambda: run_pipeline(recipe, SELECT.name, reason=reason, segments="newest")
    )


@flow(name="retrain", flow_run_name="retrain {recipe.name}: {reason}", task_runner=task_runner())
def retrain(recipe: Recipe, reason: Reason = ON_DEMAND) -> dict[str, Any]:
    """Tokenize the corpus, train all models of the recipe, release and evaluate them."""
    return run_with_retries(
        lambda: run_pipeline(recipe, LAST_STAGE, reason=reason, segments="newest")
    )


@flow(
    name="evaluate",
    flow_run_name="evaluate {recipe.name}: {reason}",
    task_runner=task_runner(),
    timeout_seconds=TIMEOUT_S,
)
def evaluate(recipe: Recipe, reason: Reason = ON_DEMAND) -> dict[str, Any]:
    """Evaluate the newest models of the recipe again; train none.

    Raises:
        UserError: if the models of this recipe are not trained.
    """
    return run_with_retries(
        lambda: run_pipeline(recipe, MEMORIZATION.name, reason=reason, segments="trained")
    )


@flow(
    name="remove",
    flow_run_name="remove {recipe.name}: {reason}",
    task_runner=task_runner(),
    timeout_seconds=TIMEOUT_S,
)
def remove(
    recipe: Recipe,
    documents: Annotated[
        tuple[RemovalForm, ...],
        Field(description="what to remove; empty: apply what was recorded before"),
    ] = (),
    reason: Reason = ON_DEMAND,
) -> dict[str, Any]:
    """Record removals, take the documents out of corpus and token shards, mark the models.

    Raises:
        UserError: if a value does not fit its kind; nothing is recorded then.
    """
    removals = [item.parse() for item in documents]
    if removals:
        append_removals(Storage(recipe.storage), recipe.name, removals, note=reason)
    return run_with_retries(
        lambda: run_pipeline(recipe, TOKENIZE.name, reason=reason, segments="newest")
    )
