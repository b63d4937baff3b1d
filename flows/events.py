"""Events of a run, on which automations of the Prefect server act (docs/schedule.md lists them).

Events say what was committed; what is in the store does not depend on them. A server that is away
loses events, and the next run of the recipe emits the due ones again.
"""

import logging
from dataclasses import asdict
from typing import Any

from prefect.events import emit_event

from flows.budgets import count_corpus_tokens, find_exceeded_budgets
from flows.execute import StepResult
from flows.recipe import Recipe
from flows.retraining import compare_with_published, find_missing_segments
from flows.steps import ACQUIRE, EVALUATE, SELECT, TRAIN
from infra.dataset.dataset import Dataset
from infra.runs.run_records import COMPLETED, RunRecord
from infra.store.environment import mask
from infra.store.storage import Storage

SEGMENT_ACQUIRED = "gristmill.segment.acquired"
CORPUS_OUTDATED = "gristmill.corpus.outdated"
CORPUS_PUBLISHED = "gristmill.corpus.published"
MODEL_OUTDATED = "gristmill.model.outdated"
MODEL_TRAINED = "gristmill.model.trained"
MODEL_EVALUATED = "gristmill.model.evaluated"
BUDGET_EXCEEDED = "gristmill.budget.exceeded"

MAX_NAMED = 2  # sources in a reason, which must fit into the parameter `reason` of a flow

STEP_EVENTS = {
    ACQUIRE.name: SEGMENT_ACQUIRED,
    TRAIN.name: MODEL_TRAINED,
    EVALUATE.name: MODEL_EVALUATED,
}

log = logging.getLogger(__name__)


class EventReporter:
    """Emits the events of one run."""

    def __init__(self, recipe: Recipe, run_id: str, flow: str) -> None:
        """Name the resource of all events: the recipe."""
        self._recipe = recipe
        self._resource = {
            "prefect.resource.id": f"gristmill.recipe.{recipe.name}",
            "prefect.resource.name": recipe.name,
            "gristmill.flow": flow,
            "gristmill.run": run_id,
        }

    def step_finished(self, result: StepResult) -> None:
        """Announce a segment, a model or an evaluation that this run has committed."""
        if result.cached or result.stage not in STEP_EVENTS:
            return
        payload = {**_describe(result.dataset), "source": result.source, "model": result.entry}
        if result.stage == EVALUATE.name:
            payload["metrics"] = result.dataset.stats.get("metrics", {})
        labels = {"gristmill.source": result.source, "gristmill.model": result.entry}
        self._emit(STEP_EVENTS[result.stage], result.folder, payload, labels)

    def run_finished(self, storage: Storage, record: RunRecord) -> None:
        """Announce a new corpus, what is out of date after the run, and budgets that are exceeded."""
        for announce in (self._announce_end, self._announce_budgets):
            try:
                announce(storage, record)
            except Exception as error:  # noqa: BLE001 - all data is committed, and the record is written
                log.warning("events of the end of the run were not sent: %r", error)

    def _announce_end(self, storage: Storage, record: RunRecord) -> None:
        corpus = next((stage for stage in record.stages if stage.stage == SELECT.name), None)
        if corpus is None:
            missing = find_missing_segments(storage, record) if record.state == COMPLETED else []
            if missing:
                names = sorted({stage.source or "" for stage in missing})
                listed = ", ".join(names) if len(names) <= MAX_NAMED else f"{len(names)} sources"
                payload = {
                    "segments": [stage.path for stage in missing],
                    "reason": f"new segments of {listed}",
                }
                self._emit(CORPUS_OUTDATED, None, payload)
            return
        retrain_reason = record.retrain_reason
        if not corpus.cached:
            change = compare_with_published(storage, record)
            published: dict[str, Any] = {
                "path": corpus.path,
                "fingerprint": corpus.fingerprint,
                **(change.to_json() if change is not None else {}),
                "tokens": count_corpus_tokens(storage, record),
                "retrain_due": retrain_reason is not None,
                "retrain_reason": retrain_reason,
            }
            self._emit(CORPUS_PUBLISHED, corpus.path, published)
        if retrain_reason is not None:
            self._emit(MODEL_OUTDATED, corpus.path, {"reason": retrain_reason})

    def _announce_budgets(self, storage: Storage, record: RunRecord) -> None:
        for exceeded in find_exceeded_budgets(storage, self._recipe, record):
            log.warning("%s", exceeded.reason)
            self._emit(BUDGET_EXCEEDED, None, asdict(exceeded))

    def _emit(
        self,
        event: str,
        folder: str | None,
        payload: dict[str, Any],
        labels: dict[str, str | None] | None = None,
    ) -> None:
        resource = {**self._resource, **{k: v for k, v in (labels or {}).items() if v is not None}}
        related = [
            {
                "prefect.resource.id": f"gristmill.dataset.{folder}",
                "prefect.resource.role": "dataset",
            }
        ]
        try:
            emit_event(
                event,
                resource=resource,
                related=related if folder is not None else [],
                payload=mask(payload),
            )
        except Exception as error:  # noqa: BLE001 - the data is committed, whatever happens to the event
            log.warning("the event %s was not sent: %r", event, error)


def _describe(dataset: Dataset) -> dict[str, Any]:
    parts = dataset.manifest.parts
    return {
        "path": "/".join(dataset.storage.url.rstrip("/").split("/")[-2:]),
        "fingerprint": dataset.fingerprint,
        "documents": dataset.counts.kept,
        "bytes": sum(part.text_bytes for part in parts),
    }
