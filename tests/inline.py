"""The pipeline in this process, without Prefect: for property tests, and for runs to look at."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.dag import Bind, build_pipeline
from flows.execute import StepResult, execute_step
from flows.recipe import Recipe
from flows.records import finetuned_records, model_records
from flows.steps import StageName
from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.stage import Context
from infra.dataset.step import Step
from infra.removals.match import Removal
from infra.runs.run_records import (
    COMPLETED,
    RunRecord,
    StageRecord,
    collect_versions,
    save_run,
)
from infra.store.storage import Storage
from lm.config.loop import RunsOnThisMachine


class Shuffled(DaskCluster):
    """Runs units one after the other, in a random order."""

    def __init__(self, order: int) -> None:
        super().__init__(ClusterConfig.model_validate({"workers": 0}))
        self._random = random.Random(order)

    def map(
        self, function: Callable[..., Any], payloads: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        order = list(range(len(payloads)))
        self._random.shuffle(order)
        for index in order:
            yield index, function(*payloads[index])


class SimulatedCrash(Exception):
    """The crash of a test."""


class InlineRunner:
    """Runs the steps in this process; can crash before any step."""

    def __init__(self, recipe: Recipe, order: int = 0, steps: int | None = None) -> None:
        self._ctx = Context(
            Storage(recipe.storage),
            recipe.seed,
            Shuffled(order),
            NullReporter(),
            recipe.name,
            "test",
        )
        self._steps = steps
        self.results: list[StepResult] = []

    def __call__(
        self,
        step: Step[...],
        inputs: Sequence[str],
        bind: Bind[str],
        *,
        source: str | None = None,
        entry: str | None = None,
        training: RunsOnThisMachine | None = None,
    ) -> str:
        if self._steps is not None and len(self.results) == self._steps:
            raise SimulatedCrash
        result = execute_step(self._ctx, step, bind, lambda folder: folder, source, entry)
        self.results.append(result)
        return result.folder


def go(
    recipe: dict[str, Any],
    until: StageName = "tokenize",
    order: int = 0,
    steps: int | None = None,
    removals: Sequence[Removal] = (),
) -> list[StepResult]:
    """Run the pipeline of a raw recipe; ``steps``: crash after so many."""
    parsed = Recipe.model_validate(recipe)
    inline = InlineRunner(parsed, order, steps)
    build_pipeline(inline, parsed, until, removals)
    return inline.results


def save_record(recipe: dict[str, Any], results: Sequence[StepResult]) -> RunRecord:
    """Save the record of a complete run, with made-up times."""
    parsed = Recipe.model_validate(recipe)
    record = RunRecord(
        recipe=parsed.name,
        run="20260131-120000-000abcd",
        started="2026-01-31T12:00:00+00:00",
        seconds=161.7,
        state=COMPLETED,
        config=parsed.to_json(),
        versions=collect_versions(),
        stages=[
            replace(
                StageRecord.from_dataset(
                    result.dataset, seconds=2.0 + index, cached=result.cached, entry=result.entry
                ),
                source=result.source,
            )
            for index, result in enumerate(results)
        ],
        models=model_records(results),
        finetuned=finetuned_records(results),
    )
    save_run(Storage(parsed.storage), record)
    return record


def data_bytes(store: Path) -> dict[str, bytes]:
    """Return every file of every data set below a local store."""
    skipped = ("runs/", "reports/", "unit_cache/")
    storage = Storage(str(store))
    return {
        name: storage.read(name) for name in storage.list_files() if not name.startswith(skipped)
    }
