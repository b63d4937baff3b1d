"""What the record of a run says of its data sets and models."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flows.execute import StepResult
from flows.steps import FINETUNE, PREPARE, RELEASE, SCORE, STEPS, SUITES, TRAIN
from infra.dataset.stage import Context
from infra.runs.run_records import (
    FinetunedRecord,
    ModelRecord,
    StageRecord,
    find_built_seconds,
)


def stage_record(ctx: Context, result: StepResult) -> StageRecord:
    """Return the record of a step's data set."""
    dataset, built_seconds = result.dataset, None
    if result.cached:
        built_seconds = find_built_seconds(ctx.storage, ctx.recipe_name, dataset.fingerprint)
    record = StageRecord.from_dataset(
        dataset, seconds=result.seconds, cached=result.cached, built_seconds=built_seconds
    )
    return replace(record, source=result.source, entry=result.entry)


def model_records(results: Sequence[StepResult]) -> list[ModelRecord]:
    """Return one record per model that any of the results belongs to."""
    by_step = {(result.entry, result.stage): result for result in results}
    steps = [step for step in STEPS if step.per == "model"]
    records = []
    for entry in dict.fromkeys(result.entry for result in results if result.entry):
        done = [
            (step, by_step[entry, step.name]) for step in steps if (entry, step.name) in by_step
        ]
        paths = {step.name: result.folder for step, result in done}
        if not any(step.name == TRAIN.name for step, _ in done):
            continue  # a model of `finetune`, or a release of one
        metrics: dict[str, Any] = {}
        for step, result in done:
            if step.output == "scores":
                metrics.update(result.dataset.stats.get("metrics", {}))
        records.append(ModelRecord(name=entry, metrics=metrics, **paths))
    return records


def finetuned_records(results: Sequence[StepResult]) -> list[FinetunedRecord]:
    """Return one record per fine-tuned model of the results."""
    folders = {(result.entry, result.stage): result.folder for result in results}
    records = []
    for result in results:
        if result.stage != FINETUNE.name or result.entry is None:
            continue
        task_entry = str(result.dataset.stats["entry"])
        records.append(
            FinetunedRecord(
                name=result.entry,
                entry=task_entry,
                finetune=result.folder,
                prepare=folders.get((task_entry, PREPARE.name)),
                release=folders.get((result.entry, RELEASE.name)),
                score=folders.get((result.entry, SCORE.name)),
                suites=folders.get((result.entry, SUITES.name)),
            )
        )
    return records
