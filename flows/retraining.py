"""Whether the corpus lacks segments, and whether the models have to be trained again: from the store alone.

An event that is lost is caught up by the next run, because it decides from the same records.
"""

from collections.abc import Callable, Sequence
from itertools import islice

from flows.recipe import Recipe
from flows.segments import MAX_RUNS_SEARCHED
from flows.steps import ACQUIRE, SELECT, TRAIN
from infra.compute.lease import find_training
from infra.errors import UserError
from infra.runs.run_records import RunRecord, StageRecord, iter_newest_first
from infra.store.storage import Storage
from views.corpora.change import CorpusChange, compare_corpora
from views.removal.exposure import load_exposure


class TrainingInProgressError(UserError):
    """Another run trains the models of this recipe; nothing was done."""


def find_missing_segments(storage: Storage, record: RunRecord) -> list[StageRecord]:
    """Return the segments of a run that the recipe's newest corpus was not made from."""
    corpus = _find_run(storage, record.recipe, lambda run: _stage(run, SELECT.name) is not None)
    used = {stage.path for stage in corpus.stages} if corpus is not None else set()
    return [s for s in record.stages if s.stage == ACQUIRE.name and s.path not in used]


def compare_with_published(storage: Storage, record: RunRecord) -> CorpusChange | None:
    """Compare the corpus of a run with the one before it; ``None`` if the run has no corpus."""
    corpus = _stage(record, SELECT.name)
    if corpus is None:
        return None
    earlier = (
        stage
        for older in islice(iter_newest_first(storage, record.recipe), MAX_RUNS_SEARCHED)
        if older.run < record.run
        and (stage := _stage(older, SELECT.name)) is not None
        and stage.fingerprint != corpus.fingerprint
    )
    before = next(earlier, None)
    return _compare(storage, before, corpus)


def explain_retraining(storage: Storage, recipe: Recipe, record: RunRecord) -> str | None:
    """Return why the models are to be trained again after a run; ``None`` if they are not."""
    corpus = _stage(record, SELECT.name)
    if corpus is None or not recipe.models:
        return None
    models = {model.name for model in recipe.models}
    trained = _find_run(storage, recipe.name, lambda run: models <= _trained_models(run))
    if trained is None:
        latest = _find_run(storage, recipe.name, lambda run: bool(_trained_models(run)))
        if latest is None:
            return "no model is trained yet"
        missing = min(models - _trained_models(latest))
        return f"model {missing} is not trained yet"
    if recipe.retrain.on_removal:
        paths = {stage.path for stage in trained.stages if stage.stage == TRAIN.name}
        for exposure in load_exposure(storage, recipe.name):
            if exposure.path in paths and exposure.is_exposed:
                return f"model {exposure.model} was trained or validated on removed documents"
    before = _stage(trained, SELECT.name)
    if before is None or before.fingerprint == corpus.fingerprint:
        return None
    change = _compare(storage, before, corpus)
    if change.new_fraction < recipe.retrain.min_new_fraction:
        return None
    return (
        f"{change.new_fraction:.1%} of the corpus is new "
        f"({change.new_documents:,} of {change.documents:,} documents)"
    )


def refuse_second_training(storage: Storage, recipe: str, run_id: str) -> None:
    """Raise ``TrainingInProgressError`` if an earlier run of the recipe trains now."""
    other = find_training(storage, recipe, before=run_id)
    if other is not None:
        raise TrainingInProgressError(
            f"run {other.run} on {other.host} trains the models of {recipe} already; start this one "
            "again when it has ended"
        )


def _compare(storage: Storage, before: StageRecord | None, after: StageRecord) -> CorpusChange:
    """Compare two corpora; one that was deleted meanwhile by the numbers of its record."""
    earlier = None if before is None else before.try_open(storage)
    if before is not None and earlier is None:
        kept, grown = after.counts.kept, after.counts.kept - before.counts.kept
        return CorpusChange(kept, after.text_bytes, max(0, grown), max(0, -grown))
    return compare_corpora(earlier, after.open(storage))


def _find_run(
    storage: Storage, recipe: str, accept: Callable[[RunRecord], bool]
) -> RunRecord | None:
    """Return the newest run that is accepted."""
    records = islice(iter_newest_first(storage, recipe), MAX_RUNS_SEARCHED)
    return next(filter(accept, records), None)


def _trained_models(record: RunRecord) -> set[str | None]:
    return {stage.entry for stage in record.stages if stage.stage == TRAIN.name}


def _stage(record: RunRecord, name: str) -> StageRecord | None:
    stages: Sequence[StageRecord] = record.stages
    return next((stage for stage in stages if stage.stage == name), None)
