"""One run under Prefect: a task for each step, then the run's record and report."""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import wait
from prefect.states import Cancelled, Completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import MaterializingTask

from flows.assets import asset_metadata, step_assets
from flows.console import ConsoleReporter, new_console
from flows.dag import Bind, build_pipeline
from flows.events import EventReporter
from flows.execute import ResourcePool, StepResult, execute_step, step_label
from flows.gates import Judged, ask_for_decisions, judge_models
from flows.logs import filter_logs
from flows.metrics import RunMetrics
from flows.metrics_targets import export_metrics
from flows.planner import PLAN, plan_pipeline
from flows.prefect_server import on_run_end
from flows.preflight import check_machine, preflight_warnings
from flows.progress import PrefectReporter
from flows.recipe import Recipe
from flows.records import finetuned_records, model_records, stage_record
from flows.report_address import describe_report, reports_url
from flows.retraining import (
    TrainingInProgressError,
    explain_retraining,
    refuse_second_training,
)
from flows.segments import SegmentChoice, choose_segments, require_models
from flows.step_errors import explain_storage_error, format_error, retry_settings
from flows.steps import STEPS, TRAIN, StageName, runs_until
from flows.summary import describe_cached, describe_result
from flows.tracing import RunTrace
from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import SCHEDULERS_ENV
from infra.compute.lease import RunLease
from infra.compute.processes import cancel_processes, reset_cancellation
from infra.compute.progress import MultiReporter
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context
from infra.dataset.step import Step
from infra.errors import UserError
from infra.log_format import JSON_FIELDS, set_run_fields, step_fields
from infra.registry.mlflow_mirror import mirror_registry
from infra.removals.log import load_removals
from infra.runs.run_records import (
    CANCELLED,
    COMPLETED,
    FAILED,
    RunRecord,
    collect_versions,
    find_same_run,
    new_run_id,
    run_start,
    save_run,
)
from infra.store.environment import mask, mask_errors
from infra.store.storage import Storage
from infra.store.writable import check_writable
from lm.config.loop import RunsOnThisMachine
from lm.distributed.devices import gpu_count
from lm.launch.preflight import required_resources
from views.removal.exposure import update_exposure
from views.report import collect_page, write_page

log = logging.getLogger(__name__)

MAX_CONCURRENT_STEPS = 16
RETRAIN = "retrain"  # a flow that must not train at the same time as another run


class RunFailedError(UserError):
    """A run that failed; the message names the step and what went wrong in it."""


@dataclass
class PipelineRun:
    """The state of a run: its steps in the order of the pipeline, and their results so far."""

    ctx: Context
    console: ConsoleReporter
    artifacts: PrefectReporter
    events: EventReporter
    metrics: RunMetrics
    trace: RunTrace
    cores: ResourcePool
    gpus: ResourcePool
    step_names: list[str] = field(default_factory=list)
    results: dict[int, StepResult] = field(default_factory=dict)
    errors: dict[int, BaseException] = field(default_factory=dict)
    futures: list[Any] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    cancelled: bool = False

    def __call__(
        self,
        step: Step[...],
        inputs: Sequence[Any],
        bind: Bind[Any],
        *,
        source: str | None = None,
        entry: str | None = None,
        training: RunsOnThisMachine | None = None,
    ) -> Any:
        """Submit a step as a Prefect task; the future's result is the data set's folder."""
        name = step_label(step.name, entry or source)
        index = len(self.step_names)
        self.step_names.append(name)
        cores, gpus = (0, 0) if training is None else required_resources(training, self.gpus.total)

        assets = step_assets(self.ctx.recipe_name, step, entry or source)
        observers = (self.console, self.metrics, self.trace)

        def work() -> State[str]:
            folders = {id(future): future.result() for future in inputs}
            for observer in observers:
                observer.step_started(step.name, entry or source)
            try:
                with (
                    step_fields(stage=step.name, source=entry or source),
                    mask_errors(),
                    explain_storage_error(self.ctx.storage),
                    self.cores.reserve(cores),
                    self.gpus.reserve(gpus),
                ):
                    result = execute_step(
                        self.ctx, step, bind, lambda future: folders[id(future)], source, entry
                    )
            except BaseException as error:
                with self.lock:
                    self.errors[index] = error
                for observer in observers:
                    observer.step_failed(step.name, entry or source)
                if self.cancelled and isinstance(error, Exception):
                    return Cancelled(message="the run was cancelled")
                raise
            with self.lock:
                self.errors.pop(index, None)  # of an earlier attempt
                self.results[index] = result
                finished = [self.results[number] for number in sorted(self.results)]
            log.info("%s", describe_result(result), extra={JSON_FIELDS: result.to_json()})
            self.artifacts.step_finished(result, finished)
            self.events.step_finished(result)
            for observer in observers:
                observer.step_finished(result)
            if result.cached:  # also tells Prefect that no asset was materialized
                return Completed(name="Cached", message="committed already", data=result.folder)
            for asset in assets:
                asset.add_metadata(asset_metadata(result))
            return Completed(data=result.folder)

        submitted = MaterializingTask(
            work,
            assets=assets,
            name=name,
            task_run_name=name,
            cache_policy=NO_CACHE,
            persist_result=False,
            **retry_settings(),
        )
        # Prefect names a run before it waits, but only after it has resolved its parameters: inputs
        # that are waited for leave no run without a name.
        future = submitted.submit(wait_for=list(inputs), return_state=False)
        self.futures.append(future)
        return future

    def failure(self) -> "RunFailedError | None":
        """Return the error of the earliest step that failed or did not run."""
        for index, name in enumerate(self.step_names):
            if index in self.errors:
                error = RunFailedError(mask(f"{name}: {format_error(self.errors[index])}"))
                error.__cause__ = self.errors[index]
                return error
        for index, name in enumerate(self.step_names):
            if index not in self.results:
                message = self.futures[index].state.message or self.futures[index].state.name
                return RunFailedError(f"{name}: {message}")
        return None

    def cancel(self) -> None:
        """Start no further step, and end the local workers and the child processes."""
        self.cancelled = True
        self.cores.cancel()
        self.gpus.cancel()
        self.ctx.cluster.cancel()
        cancel_processes()


def task_runner() -> Any:
    """Return the task runner of all flows: its threads only wait for Dask or for child processes."""
    return ThreadPoolTaskRunner(max_workers=MAX_CONCURRENT_STEPS)


@mask_errors()
def run_pipeline(
    recipe: Recipe,
    until: StageName,
    *,
    reason: str,
    segments: SegmentChoice | Mapping[str, Dataset] = "new",
) -> dict[str, Any]:
    """Run the pipeline inside a flow run, then write the run's record and report.

    Args:
        recipe: what to make.
        until: the last stage.
        reason: why the run was started, for its record.
        segments: which segment of every source it takes, or these by source. With ``trained``, nothing
            but the evaluation of models may be missing.

    Returns:
        The run's record as JSON.

    Raises:
        RunFailedError: if a step failed; the record and the report of the run so far are written.
        UserError: if this machine cannot do what the recipe requires; nothing was done.
    """
    run = FlowRunContext.get()
    is_deployed = bool(run and run.flow_run and run.flow_run.deployment_id)
    if is_deployed and not recipe.cluster.is_trusted:
        raise UserError(
            f"cluster.address: {recipe.cluster.address} is not a scheduler that runs of deployments may "
            f"use; whoever operates this machine can add it to {SCHEDULERS_ENV}"
        )
    storage = Storage(recipe.storage)
    existing = choose_segments(storage, recipe, segments) if isinstance(segments, str) else segments
    planner = PLAN.get()
    get_planner = cache(lambda: planner or plan_pipeline(recipe, until, segments=existing))
    if segments == "trained":
        require_models(get_planner())
    if planner is None:  # otherwise the command has checked already
        check_machine(recipe, until, get_planner)
    gpus = gpu_count() if recipe.train else 0
    warnings = preflight_warnings(recipe, until, gpus, get_planner)
    reports_url()  # refuses a wrong address before any work
    console, metrics, run_trace = new_console(), RunMetrics(recipe.name), RunTrace(recipe.name)
    artifacts = PrefectReporter(recipe.name)
    reporter = MultiReporter(console, artifacts, metrics, run_trace)
    removals = load_removals(storage, recipe.name)
    check_writable(storage)
    start = time.monotonic()
    reset_cancellation()
    with (
        filter_logs(),
        console,
        export_metrics(metrics, recipe.name),
        DaskCluster(recipe.cluster, reporter) as cluster,
    ):
        cluster.check_storage(storage)
        run_id = new_run_id(storage)
        set_run_fields(recipe=recipe.name, run=run_id)
        run_trace.run_started(run_id)
        started_at = run_start(run_id)  # other nodes know the time from the id
        flow = run.flow.name if run and run.flow else ""
        trains = bool(recipe.train) and runs_until(TRAIN, until) and segments != "trained"
        lease = RunLease(storage, recipe.name, run_id, trains=trains)
        events = EventReporter(recipe, run_id, flow)
        if trains and (is_deployed or flow == RETRAIN):
            try:
                refuse_second_training(storage, recipe.name, run_id)
            except TrainingInProgressError:
                artifacts.close(keep_links=False)
                lease.close(completed=True)
                raise
        ctx = Context(
            storage, recipe.seed, cluster, reporter, recipe.name, run_id, started_at, lease
        )
        for text in warnings:
            log.warning("%s", text)
            console.warn(text)
        pipeline_run = PipelineRun(
            ctx,
            console,
            artifacts,
            events,
            metrics,
            run_trace,
            ResourcePool(os.cpu_count() or 1),
            ResourcePool(gpus),
        )
        error: BaseException | None = None
        judged = Judged(())
        try:
            build_pipeline(pipeline_run, recipe, until, removals, existing)
            wait(pipeline_run.futures)
            error = pipeline_run.failure()
        except BaseException as interruption:  # noqa: BLE001 - raised again below
            pipeline_run.cancel()
            error = interruption
        try:
            seconds = round(time.monotonic() - start, 3)
            record = _build_record(ctx, recipe, pipeline_run, error, seconds)
            record = replace(record, flow=flow or None, reason=reason)
            folders = [stage.path for stage in record.stages]
            same = find_same_run(storage, recipe.name, folders) if error is None else None
            save_run(storage, record)
            if error is None:
                update_exposure(storage, recipe.name, removals, STEPS)
                record = replace(record, retrain_reason=explain_retraining(storage, recipe, record))
                judged = judge_models(storage, recipe, record, until)
                record, error = _add_verdicts(record, judged)
                artifacts.publish_gates(judged.versions)
                if recipe.release is not None and recipe.release.mlflow_registry_uri is not None:
                    uri = recipe.release.mlflow_registry_uri
                    metrics.registry_mirrored(mirror_registry(storage, recipe.name, uri))
            if error is None or isinstance(error, RunFailedError):
                numbers = record.versions_registered
                same = same if same and same.versions_registered == numbers else None
                record = replace(record, report=same.report if same else None)
                record = _write_report(storage, record, artifacts, has_removals=bool(removals))
            events.run_finished(storage, record)
        except Exception as write_error:
            if error is None:
                raise
            log.warning(
                "neither record nor report of the failed run could be written: %r", write_error
            )
            raise error from write_error
        finally:
            metrics.run_finished(_run_state(error))
            artifacts.close(keep_links=recipe.cluster.address is not None)
            lease.close(completed=error is None or judged.error is not None)
    if error is None:
        ask_for_decisions(storage, recipe, judged.versions)
    on_run_end(record, error)
    if error is not None:
        raise error
    return record.to_json()


def _add_verdicts(record: RunRecord, judged: Judged) -> tuple[RunRecord, RunFailedError | None]:
    """Add the registered versions to a record; a model that fails its gates fails the run."""
    numbers = {version.model: version.number for version in judged.versions}
    record = replace(record, versions_registered=numbers)
    if judged.error is None:
        return record, None
    error = RunFailedError(str(judged.error))
    error.__cause__ = judged.error
    return replace(record, state=FAILED, error=mask(str(error))), error


def _write_report(
    storage: Storage, record: RunRecord, artifacts: PrefectReporter, *, has_removals: bool
) -> RunRecord:
    """Write the run's page, unless the record refers to that of an earlier run with the same results."""
    page = collect_page(storage, record, STEPS)
    path = record.report or write_page(storage, page)
    record = replace(record, report=path)
    save_run(storage, record)
    log.info("%s Report: %s", describe_cached(record), mask(f"{storage.url.rstrip('/')}/{path}"))
    artifacts.publish_results(page, describe_report(storage, path), has_removals=has_removals)
    return record


def _build_record(
    ctx: Context,
    recipe: Recipe,
    pipeline_run: PipelineRun,
    error: BaseException | None,
    seconds: float,
) -> RunRecord:
    results = [pipeline_run.results[index] for index in sorted(pipeline_run.results)]
    return RunRecord(
        recipe=recipe.name,
        run=ctx.run_id,
        started=ctx.started_at.isoformat(timespec="seconds"),
        seconds=seconds,
        state=_run_state(error),
        error=None if error is None else mask(str(error)) or type(error).__name__,
        config=recipe.to_record(),
        versions=collect_versions(),
        stages=[stage_record(ctx, result) for result in results],
        models=model_records(results),
        finetuned=finetuned_records(results),
    )


def _run_state(error: BaseException | None) -> str:
    return COMPLETED if error is None else FAILED if isinstance(error, Exception) else CANCELLED
