"""Which segment of every source a run takes: a new one, the newest, or that of the trained models."""

from collections.abc import Mapping
from itertools import islice
from typing import Literal

from flows.execute import step_label
from flows.planner import Planner
from flows.recipe import Recipe
from flows.steps import ACQUIRE, EVALUATE, MEMORIZATION, SUITES, TRAIN
from infra.dataset.dataset import Dataset
from infra.errors import UserError
from infra.runs.run_records import iter_newest_first
from infra.store.storage import Storage
from tasks.acquire.task import has_settings

EVALUATIONS = (EVALUATE.name, SUITES.name, MEMORIZATION.name)
MAX_RUNS_SEARCHED = 500  # hourly refreshes leave many records between two trainings

# new: look at the sources again. newest: what the latest run had. trained: what the models were trained on.
SegmentChoice = Literal["new", "newest", "trained"]


def choose_segments(
    storage: Storage, recipe: Recipe, choice: SegmentChoice
) -> Mapping[str, Dataset]:
    """Return the segments to take, by source; a source without one is acquired.

    Only segments that were acquired with the recipe's settings of their source are taken.
    """
    segments: dict[str, Dataset] = {}
    if choice == "new":
        return segments
    sources = {source.name: source for source in recipe.sources}
    for record in islice(iter_newest_first(storage, recipe.name), MAX_RUNS_SEARCHED):
        if choice == "trained" and not any(stage.stage == TRAIN.name for stage in record.stages):
            continue
        for stage in record.stages:
            source = sources.get(stage.source or "")
            if stage.stage != ACQUIRE.name or source is None or source.name in segments:
                continue
            segment = stage.try_open(storage)
            if segment is not None and has_settings(segment, source):
                segments[source.name] = segment
        if choice == "trained" or segments.keys() == sources.keys():
            break
    return segments


def require_models(planner: Planner) -> None:
    """Raise ``UserError`` if anything but an evaluation would have to be made."""
    for step in planner.steps:
        if step.dataset is None and step.stage not in EVALUATIONS:
            label = step_label(step.stage, step.entry or step.source)
            raise UserError(
                f"{label}: {step.why}, so there is no model to evaluate; run retrain first"
            )
