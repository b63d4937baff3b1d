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

Handle = Any
PAGES = ("web", "warc")  # kinds of source whose documents have to be extracted from pages


class Walker(Protocol):
    """Takes a step of the road and gives a handle of the data set it makes."""

    def __call__(
        self,
        step: Step,
        *,
        source: str | None = None,
        entry: str | None = None,
        settings: dict[str, Any] | None = None,
        data: dict[str, Handle | list[Handle]] | None = None,
    ) -> Handle:
        """Walk one step.

        Args:
            step: what to do.
            source: the source it is done for, if it is done for one.
            entry: the model it is done for, if it is done for one.
            settings: arguments of the step that come from the recipe.
            data: arguments of the step that are data sets.
        """


def walk(
    do: Walker,
    recipe: Recipe,
    until: StageName = "evaluate",
    removals: Sequence[Removal] = (),
) -> None:
    """The whole road, or its beginning up to and including a stage.

    Args:
        do: walks one step.
        recipe: what is wanted.
        until: the last stage.
        removals: what was taken out of this recipe (``infra.removals.log``).
    """
    wanted = STAGES[: STAGES.index(until) + 1]
    names = [source.name for source in recipe.sources]

    raw = [
        do(acquire, source=s.name, settings={"source": s, "removals": removals})
        for s in recipe.sources
    ]
    if "extract" not in wanted:
        return
    documents = [
        do(
            extract,
            source=s.name,
            settings={"config": recipe.extract, "license": s.license},
            data={"raw": pages},
        )
        if s.kind in PAGES
        else pages
        for s, pages in zip(recipe.sources, raw, strict=True)
    ]
    if "annotate" not in wanted:
        return
    notes = [
        do(annotate, source=name, settings={"config": recipe.annotate}, data={"documents": texts})
        for name, texts in zip(names, documents, strict=True)
    ]
    if "dedup" not in wanted:
        return
    marks = do(
        dedup,
        settings={"config": recipe.dedup, "removals": removals},
        data={
            "documents": documents,
            "notes": notes if recipe.dedup.needs_languages else [],
        },
    )
    if "select" not in wanted:
        return
    corpus = do(
        select,
        settings={"config": recipe.select, "removals": removals},
        data={"documents": documents, "notes": notes, "marks": marks},
    )
    if "tokenize" not in wanted:
        return
    tokens = do(tokenize, settings={"config": recipe.tokenize}, data={"corpus": corpus})
    if "train" not in wanted:
        return
    models: dict[str, Handle] = {}
    for model in recipe.train:
        data = {"tokens": tokens}
        if model.start_from is not None:
            data["base"] = models[model.start_from]
        trained = do(train, entry=model.name, settings={"config": model}, data=data)
        models[model.name] = trained
        folder = do(release, entry=model.name, data={"model": trained, "tokens": tokens})
        if "evaluate" in wanted and recipe.evaluate is not None:
            do(
                evaluate,
                entry=model.name,
                settings={"config": recipe.evaluate},
                data={"model": folder, "tokens": tokens},
            )
