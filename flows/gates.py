"""The end of a run: its models are judged by the gates of the recipe, and registered.

The gates are no step: how they turn out depends on who is the champion, not only on data sets. The same model,
judged against the same champion by the same gates, is not registered again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from typing import Literal

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Completed, Failed
from prefect.tasks import Task
from pydantic import Field

from flows.judged import describe_version
from flows.recipe import Recipe
from flows.step_errors import retry_settings
from flows.steps import FINETUNE, LAST_STAGE, RELEASE, TRAIN, StageName
from flows.summary import describe_evidence
from infra.dataset.fingerprint import json_sha256
from infra.errors import UserError
from infra.registry.history import (
    CHALLENGER,
    CHAMPION,
    AliasMovedError,
    load_history,
    model_state,
    promote,
    reject,
)
from infra.registry.versions import (
    FAILED,
    HELD,
    PASSED,
    Version,
    load_version,
    load_versions,
    register_version,
)
from infra.runs.run_records import RunRecord, StageRecord
from infra.store.storage import Storage
from lm.metrics.conditions import parse_condition
from views.models.gates import check_gates
from views.models.measurements import (
    DEBTS,
    count_debts,
    find_scores,
    measure,
    measure_version,
    metric_rows,
)
from views.removal.exposure import load_exposure

log = logging.getLogger(__name__)

HOLD = "hold"  # of `release.on_pass`
POLL_INTERVAL_S = 5  # between two looks for a decision


class GatesFailedError(UserError):
    """A model does not meet the gates of the recipe; everything is stored, the evidence too."""


class NotDecidedError(UserError):
    """A held model for which nobody filled in the form; Prefect ends such a run as failed."""


@dataclass(frozen=True)
class Judged:
    """The versions of a run's models, and what became of them."""

    versions: Sequence[Version]
    error: GatesFailedError | None = None


def judge_models(storage: Storage, recipe: Recipe, record: RunRecord, until: StageName) -> Judged:
    """Judge and register the models of a run, a Prefect task each; a run that stops early has none."""
    versions: list[Version] = []
    failures: list[str] = []

    def judge(model: str) -> State[None]:
        version, is_new = judge_model(storage, recipe, record, model)
        line = describe_version(storage, version)
        log.info("%s", line)
        versions.append(version)
        if version.state == FAILED:
            failures.append(line)
            return Failed(message=line)
        if not is_new:
            return Completed(name="Cached", message=line)
        return Completed(message=line)

    for model in recipe.registered_models if until == LAST_STAGE else ():
        gate = Task(
            judge,
            name=f"gate {model}",
            task_run_name=f"gate {model}",
            cache_policy=NO_CACHE,
            persist_result=False,
            **retry_settings(),
        )
        state = gate(model, return_state=True)
        if state.is_failed() and not (versions and versions[-1].model == model):
            state.result()  # raises what went wrong
    return Judged(versions, GatesFailedError("; ".join(failures)) if failures else None)


def judge_model(
    storage: Storage, recipe: Recipe, record: RunRecord, model: str
) -> tuple[Version, bool]:
    """Check a model's gates, register it, and set its alias if nobody has decided about it yet.

    Returns:
        The version, and whether it was registered or promoted now.
    """
    section = recipe.release
    assert section is not None
    release = _stage(record, RELEASE.name, model)
    trained = _stage(record, TRAIN.name, model) or _stage(record, FINETUNE.name, model)
    assert release is not None
    assert trained is not None
    export = release.open(storage)
    scores = find_scores(storage, record, model)
    debts = count_debts(load_exposure(storage, recipe.name), trained.path)
    rows = metric_rows(scores, debts)
    contents = [export.content, *(data.content for data in scores)]
    subject = json_sha256([contents, debts, *section.gates])
    history = load_history(storage, recipe.name)
    state = model_state(history, model)
    champion = (
        None if state.champion is None else load_version(storage, recipe.name, state.champion)
    )
    if champion is not None and champion.subject == subject:
        return champion, False
    evidence = check_gates(
        [parse_condition(text) for text in section.gates],
        measure(scores, [row for row in rows if row["name"] == DEBTS]),
        None if champion is None else measure_version(storage, champion),
        state.champion,
    )
    is_champion = champion is not None and champion.weights == export.content
    withdrawn = not is_champion and any(
        item.number in state.withdrawn and item.weights == export.content
        for item in load_versions(storage, recipe.name, model)
    )
    waits = withdrawn or section.on_pass == HOLD
    outcome = HELD if waits else PASSED
    version = register_version(
        storage,
        Version(
            number=0,
            recipe=recipe.name,
            model=model,
            subject=subject,
            weights=export.content,
            state=outcome if all(item.passed for item in evidence) else FAILED,
            trained=trained.path,
            export=release.path,
            scores=[
                f"{data.stage}/{data.storage.url.rstrip('/').rsplit('/', 1)[1]}" for data in scores
            ],
            run=record.run,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            champion=state.champion,
            on_pass=section.on_pass,
            metrics=rows,
            gates=evidence,
            packages=_installed_packages(),
        ),
    )
    event = None
    if version.state != FAILED and version.number not in state.decided:
        alias = CHAMPION if version.state == PASSED else CHALLENGER
        reason = "all gates passed" if alias == CHAMPION else "all gates passed; a person decides"
        by = f"run {record.run}"
        try:
            event = promote(storage, version, by=by, reason=reason, alias=alias, expected=history)
        except AliasMovedError as error:
            log.warning("version %d was judged, but not made %s: %s", version.number, alias, error)
    return version, event is not None or version.run == record.run


class Decision(RunInput):
    """What a person decides about a model that is held."""

    decision: Literal["approve", "reject"] = Field(description="approve makes it the champion")
    by: str = Field(min_length=1, description="who decides")
    reason: str = Field(min_length=1, description="why; kept in the registry")


def ask_for_decisions(storage: Storage, recipe: Recipe, versions: Sequence[Version]) -> None:
    """Pause a run of a deployment for each held version, with a form in Prefect's UI.

    Without a deployment nobody looks at a form: the version waits for ``gristmill models promote``.
    """
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    if recipe.release is None or flow_run is None or flow_run.deployment_id is None:
        return
    for version in versions:
        state = model_state(load_history(storage, version.recipe), version.model)
        if version.state != HELD or state.challenger != version.number:
            continue
        form = Decision.with_initial_data(description=describe_evidence(version))
        try:
            answer = pause_flow_run(
                wait_for_input=form,
                timeout=int(recipe.release.hold_timeout_s),
                poll_interval=POLL_INTERVAL_S,
                key=f"version-{version.number}",
            )
        except FlowPauseTimeout:
            raise NotDecidedError(
                f"nobody decided about version {version.number} of {version.model} in time; all is stored, and it "
                "waits for: gristmill models promote"
            ) from None
        decide = promote if answer.decision == "approve" else reject
        decide(storage, version, by=answer.by, reason=answer.reason)
        log.info("%s", describe_version(storage, version))


def _stage(record: RunRecord, name: str, entry: str) -> StageRecord | None:
    return next((s for s in record.stages if (s.stage, s.entry) == (name, entry)), None)


def _installed_packages() -> dict[str, str]:
    found = {item.metadata["Name"]: item.version for item in distributions()}
    return {name: found[name] for name in sorted(found, key=str.lower) if name}
