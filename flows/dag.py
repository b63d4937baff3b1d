"""The road as a picture: what runs after what, from sources to evaluated models.

``do`` decides what walking means: a Prefect flow submits each step as a task, a plan only asks the
store. Handles stand for data sets that may not be there yet.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from flows.recipe import STAGES, Recipe, StageName
from infra.dataset.step import Step
from infra.removals.match import Removal
from tasks.acquire.task import acquire
from tasks.annotate.task import annotate
from tasks.dedup.task import dedup
from tasks.evaluate.task import evaluate
from tasks.extract.task import extract
from tasks.release.task import release
from tasks.select.task import select
from tasks.tokenize.task import tokenize
from tasks.train.task import train

StepHandle = Any
HTML_KINDS = ("web", "warc")  # kinds of source whose documents have to be extracted from pages


class StepRunner(Protocol):
    """Takes a step of the road and gives a handle of the data set it makes."""

    def __call__(
        self,
        step: Step,
        *,
        source: str | None = None,
        entry: str | None = None,
        params: dict[str, Any] | None = None,
        inputs: dict[str, StepHandle | list[StepHandle]] | None = None,
    ) -> StepHandle:
        """Walk one step.

        Args:
            step: what to do.
            source: the source it is done for, if it is done for one.
            entry: the model it is done for, if it is done for one.
            params: arguments of the step that come from the recipe.
            inputs: arguments of the step that are data sets.
        """


def build_pipeline(
    run_step: StepRunner,
    recipe: Recipe,
    until: StageName = "evaluate",
    removals: Sequence[Removal] = (),
) -> None:
    """The whole road, or its beginning up to and including a stage.

    Args:
        run_step: walks one step.
        recipe: what is wanted.
        until: the last stage.
        removals: what was taken out of this recipe (``infra.removals.log``).
    """
    wanted = STAGES[: STAGES.index(until) + 1]
    names = [source.name for source in recipe.sources]

    raw = [
        run_step(acquire, source=s.name, params={"source": s, "removals": removals})
        for s in recipe.sources
    ]
    if "extract" not in wanted:
        return
    documents = [
        run_step(
            extract,
            source=s.name,
            params={"config": recipe.extract, "license": s.license},
            inputs={"raw": pages},
        )
        if s.kind in HTML_KINDS
        else pages
        for s, pages in zip(recipe.sources, raw, strict=True)
    ]
    if "annotate" not in wanted:
        return
    annotations = [
        run_step(
            annotate, source=name, params={"config": recipe.annotate}, inputs={"documents": texts}
        )
        for name, texts in zip(names, documents, strict=True)
    ]
    if "dedup" not in wanted:
        return
    duplicate_labels = run_step(
        dedup,
        params={"config": recipe.dedup, "removals": removals},
        inputs={
            "documents": documents,
            "annotations": annotations if recipe.dedup.needs_languages else [],
        },
    )
    if "select" not in wanted:
        return
    corpus = run_step(
        select,
        params={"config": recipe.select, "removals": removals},
        inputs={
            "documents": documents,
            "annotations": annotations,
            "duplicate_labels": duplicate_labels,
        },
    )
    if "tokenize" not in wanted:
        return
    tokens = run_step(tokenize, params={"config": recipe.tokenize}, inputs={"corpus": corpus})
    if "train" not in wanted:
        return
    models: dict[str, StepHandle] = {}
    for model in recipe.train:
        inputs = {"tokens": tokens}
        if model.init_from is not None:
            inputs["base_model"] = models[model.init_from]
        trained = run_step(train, entry=model.name, params={"config": model}, inputs=inputs)
        models[model.name] = trained
        folder = run_step(release, entry=model.name, inputs={"model": trained, "tokens": tokens})
        if "evaluate" in wanted and recipe.evaluate is not None:
            run_step(
                evaluate,
                entry=model.name,
                params={"config": recipe.evaluate},
                inputs={"model": folder, "tokens": tokens},
            )
