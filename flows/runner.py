"""One run under Prefect: each step of the road a task, the record and the report at the end."""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from flows.dag import walk
from flows.execute import Result, Slots, perform
from flows.farewell import ended
from flows.preflight import plan, remarked, require_machine
from flows.progress import Artifacts, Console, label
from flows.recipe import Recipe, StageName
from infra.compute.cluster import Cluster
from infra.compute.processes import allow_children, stop_children
from infra.compute.progress import Several
from infra.dataset.stage import Context
from infra.dataset.step import Step
from infra.errors import UserError
from infra.removals.log import removals
from infra.runs.run_records import (
    CANCELLED,
    COMPLETED,
    FAILED,
    ModelRecord,
    RunRecord,
    StageRecord,
    built_seconds,
    new_run_id,
    save,
    versions,
)
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.data.sampler import steps_that_saw
from lm.launch.preflight import busy, gpu_count
from views.removal.exposure import mark_models
from views.report import build_report

log = logging.getLogger(__name__)

LOGGERS = ("cli", "flows", "views", "tasks", "lm", "infra")  # as in PREFECT_LOGGING_EXTRA_LOGGERS
CONCURRENT_STEPS = 16
RETRIES, RETRY_DELAYS = 2, (5.0, 30.0)  # for storage and network errors only


class RunFailed(UserError):
    """A run that did not reach its end; the message names the stage and what went wrong there."""


@dataclass
class Journey:
    """The state of a run: what was done so far, in the road's order."""

    ctx: Context
    console: Console
    artifacts: Artifacts
    cores: Slots
    gpus: Slots
    steps: list[str] = field(default_factory=list)
    results: dict[int, Result] = field(default_factory=dict)
    errors: dict[int, BaseException] = field(default_factory=dict)
    futures: list[Any] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(
        self,
        step: Step,
        *,
        source: str | None = None,
        entry: str | None = None,
        settings: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
    ) -> Any:
        """Submit a step as a Prefect task; its future gives the data set's folder."""
        name = label(step.name, entry or source)
        place = len(self.steps)
        self.steps.append(name)

        def work(data: dict[str, Any]) -> str:
            try:
                cores, gpus = _busy(settings or {}, self.gpus.total)
                with self.cores.hold(cores), self.gpus.hold(gpus):
                    result = perform(self.ctx, step, source, entry, settings or {}, data)
            except BaseException as error:
                with self.lock:
                    self.errors[place] = error
                raise
            with self.lock:
                self.errors.pop(place, None)  # of an attempt before this one
                self.results[place] = result
            self.console.finished(result)
            self.artifacts.finished(result)
            return result.folder

        submitted = task(
            name=step.name,
            task_run_name=name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=RETRIES,
            retry_delay_seconds=list(RETRY_DELAYS),
            retry_condition_fn=_worth_retrying,
        )(work)
        future = submitted.submit(data=data or {})
        self.futures.append(future)
        return future

    def failure(self) -> "RunFailed | None":
        """What stopped the run short of its end, the earliest step first."""
        for place, name in enumerate(self.steps):
            if place in self.errors:
                error = RunFailed(f"{name}: {_sentence(self.errors[place])}")
                error.__cause__ = self.errors[place]
                return error
        for place, name in enumerate(self.steps):
            if place not in self.results:
                message = self.futures[place].state.message or self.futures[place].state.name
                return RunFailed(f"{name}: {message}")
        return None

    def stop(self) -> None:
        """Start nothing more and end what runs in child processes."""
        self.cores.stop()
        self.gpus.stop()
        stop_children()


def runner() -> Any:
    """The task runner of all flows: tasks only wait for the cluster or a process group."""
    return ThreadPoolTaskRunner(max_workers=CONCURRENT_STEPS)


def travel(recipe: Recipe, until: StageName) -> dict[str, Any]:
    """Walk the road inside a flow run, then write the run's record and report.

    Returns:
        The run's record as JSON.

    Raises:
        RunFailed: if a stage failed; the record and the report of what was done are there.
        UserError: if this machine cannot do what the recipe asks; nothing was done.
    """
    planned = cache(partial(plan, recipe, until))  # the store is asked once, if at all
    require_machine(recipe, until, planned)
    gpus = gpu_count() if recipe.train else 0
    advice = remarked(recipe, until, gpus, planned)
    console, artifacts = Console(), Artifacts()
    reporter = Several(console, artifacts)
    storage = Storage(recipe.storage)
    gone = removals(storage, recipe.name)
    began = datetime.now(UTC)
    allow_children()
    with Cluster(recipe.cluster, reporter) as cluster, worker_logs():
        ctx = Context(
            storage, recipe.seed, cluster, reporter, recipe.name, new_run_id(began), began
        )
        for text in advice:
            log.warning("%s", text)
            console.remark(text)
        journey = Journey(ctx, console, artifacts, Slots(os.cpu_count() or 1), Slots(gpus))
        error: BaseException | None = None
        try:
            walk(journey, recipe, until, gone)
            wait(journey.futures)
            error = journey.failure()
        except BaseException as interruption:  # noqa: BLE001 - raised again below
            journey.stop()
            error = interruption
        try:
            record = _record(ctx, recipe, journey, error)
            save(storage, record)
            if error is None:
                mark_models(storage, recipe.name, gone, steps_that_saw)
            if error is None or isinstance(error, RunFailed):
                record = _report(storage, record, artifacts)
        except Exception as second:
            if error is None:
                raise
            log.warning("neither record nor report of the failed run could be written: %r", second)
            raise error from second
        finally:
            artifacts.close()
    ended(record, error)
    if error is not None:
        raise error
    return record.to_json()


@contextmanager
def worker_logs() -> Iterator[None]:
    """Lines that Dask workers log belong to the flow run, though they arrive outside its context."""
    run = FlowRunContext.get()
    number = run.flow_run.id if run and run.flow_run else None

    def belongs(record: logging.LogRecord) -> bool:
        if number is not None and not hasattr(record, "flow_run_id") and not _in_run():
            record.flow_run_id = number
        return True

    handlers = {id(h): h for name in LOGGERS for h in logging.getLogger(name).handlers}.values()
    for handler in handlers:
        handler.addFilter(belongs)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(belongs)


def _in_run() -> bool:
    return TaskRunContext.get() is not None or FlowRunContext.get() is not None


def _report(storage: Storage, record: RunRecord, artifacts: Artifacts) -> RunRecord:
    record = record.with_report(build_report(storage, record))
    save(storage, record)
    artifacts.report(f"{storage.url.rstrip('/')}/{record.report}")
    return record


def _busy(settings: dict[str, Any], gpus: int) -> tuple[int, int]:
    """Cores and GPUs that a step keeps busy in this process's children; the cluster's are its own."""
    config = settings.get("config")
    return busy(config, gpus) if isinstance(config, TrainConfig) else (0, 0)


def _worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """A storage or network error may pass; anything else would fail again."""
    try:
        state.result()
    except (ConnectionError, TimeoutError):
        return True
    except OSError as error:
        return not isinstance(error, FileNotFoundError | PermissionError | FileExistsError)
    except Exception as error:  # noqa: BLE001 - of a library of its own
        return type(error).__module__.split(".")[0] in ("botocore", "aiobotocore", "aiohttp")
    return False


def _sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ... ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or type(error).__name__
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _record(
    ctx: Context, recipe: Recipe, journey: Journey, error: BaseException | None
) -> RunRecord:
    results = [journey.results[place] for place in sorted(journey.results)]
    state = COMPLETED if error is None else FAILED if isinstance(error, Exception) else CANCELLED
    return RunRecord(
        recipe=recipe.name,
        run=ctx.run,
        started=ctx.now.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - ctx.now).total_seconds(), 3),
        state=state,
        error=None if error is None else str(error) or type(error).__name__,
        config=recipe.facts(),
        versions=versions(),
        stages=[_stage(ctx, result) for result in results],
        models=models(results),
    )


def _stage(ctx: Context, result: Result) -> StageRecord:
    before = None
    if result.cached:
        before = built_seconds(ctx.storage, ctx.recipe, result.dataset.fingerprint)
    record = StageRecord.of(
        result.dataset,
        seconds=result.seconds,
        cached=result.cached,
        entry=result.entry,
        built_seconds=before,
    )
    return replace(record, source=result.source)


def models(results: Sequence[Result]) -> list[ModelRecord]:
    """One record per model that any of the results belongs to."""
    by_step = {(result.entry, result.step): result for result in results}
    found = []
    for entry in dict.fromkeys(result.entry for result in results if result.entry):
        paths = {
            step: by_step[entry, step].folder if (entry, step) in by_step else None
            for step in ("train", "release", "evaluate")
        }
        scored = by_step.get((entry, "evaluate"))
        metrics = scored.dataset.facts.get("metrics", {}) if scored else {}
        found.append(ModelRecord(name=entry, metrics=dict(metrics), **paths))
    return found
