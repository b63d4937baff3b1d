"""The flow ``ablate``: run the variants of a recipe and compare the models trained on each."""

import json
import logging
from typing import Any

from prefect import flow

from flows.artifacts import RunArtifacts
from flows.attempts import run_with_retries
from flows.pipeline import ON_DEMAND, Reason
from flows.recipe import Name, Recipe
from flows.runner import run_pipeline, task_runner
from flows.segments import choose_segments
from flows.steps import LAST_STAGE
from infra.removals.log import append_removals, append_restorations, load_removals
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from views.models.ablation import Ablation, compare_variants

ABLATIONS_FOLDER = "ablations"

log = logging.getLogger(__name__)


@flow(name="ablate", flow_run_name="ablate {recipe.name}: {reason}", task_runner=task_runner())
def ablate(recipe: Recipe, reason: Reason = ON_DEMAND) -> Ablation:
    """Train the recipe's models on each variant of its corpus, and compare them on the same items.

    All variants take the same segments; what they have in common is made once.

    Raises:
        UserError: if the recipe has no section `ablate`, a variant fails, or its models cannot be compared.
    """
    assert recipe.ablate is not None
    storage, records = Storage(recipe.storage), dict[str, RunRecord]()
    newest_of = recipe.name
    for name, variant in recipe.variants.items():
        share_removals(storage, recipe.name, variant.name)
        records[name] = RunRecord.from_json(run_variant(variant, newest_of, reason))
        newest_of = next(iter(records.values())).recipe
    found = compare_variants(
        storage, records, recipe.name, recipe.ablate.model, recipe.ablate.seeds
    )
    run_id = next(iter(records.values())).run
    text = json.dumps(found.to_json(), indent=1) + "\n"
    storage.write(f"{ABLATIONS_FOLDER}/{recipe.name}/{run_id}.json", text.encode())
    rows = [dict(zip(found.rows[0], row, strict=True)) for row in found.rows[1:]]
    description = (
        f"Models {recipe.ablate.model} on each variant, beside those on the recipe as it is"
    )
    RunArtifacts(recipe.name).put_table("ablation", rows, description)
    for item in found.metrics:
        log.info(
            "%s: %s is %s (%+.4f)", item.variant, item.metric, item.answer, item.difference.value
        )
    return found


@flow(name="variant", flow_run_name="{recipe.name}: {reason}", task_runner=task_runner())
def run_variant(recipe: Recipe, segments_of: Name, reason: Reason) -> dict[str, Any]:
    """Run the pipeline of a variant on the newest segments of a recipe; acquire those that it lacks."""
    named = recipe.model_copy(update={"name": segments_of})
    segments = choose_segments(Storage(recipe.storage), named, "newest")
    return run_with_retries(
        lambda: run_pipeline(recipe, LAST_STAGE, reason=reason, segments=segments)
    )


def share_removals(storage: Storage, recipe: str, variant: str) -> None:
    """Remove from a variant what is removed from its recipe, and nothing else."""
    wanted, known = set(load_removals(storage, recipe)), set(load_removals(storage, variant))
    append_removals(storage, variant, [*wanted], note=f"removed from {recipe}")
    if known - wanted:
        append_restorations(storage, variant, [*(known - wanted)], note=f"restored in {recipe}")
