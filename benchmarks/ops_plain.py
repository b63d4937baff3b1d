"""The steps of a recipe as plain functions, without Prefect: `python -m benchmarks.ops_plain RECIPE STORAGE`.

Prints the seconds from the first step to the end of the last one.
"""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from flows.dag import Bind, build_pipeline
from flows.execute import execute_step
from flows.recipe_loader import load_recipe
from infra.compute.cluster import DaskCluster
from infra.compute.progress import NullReporter
from infra.dataset.stage import Context
from infra.dataset.step import Step
from infra.store.storage import Storage
from lm.config.loop import RunsOnThisMachine


class PlainRunner:
    """Runs each step when it is called."""

    def __init__(self, ctx: Context) -> None:
        """Run the steps in this context."""
        self._ctx = ctx

    def __call__(
        self,
        step: Step[...],
        inputs: Sequence[str],  # noqa: ARG002 - what `bind` looks up
        bind: Bind[str],
        *,
        source: str | None = None,
        entry: str | None = None,
        training: RunsOnThisMachine | None = None,  # noqa: ARG002 - one step at a time
    ) -> str:
        """Run one step (``flows.dag.StepRunner``)."""
        return execute_step(self._ctx, step, bind, str, source, entry).folder


def main(arguments: Sequence[str]) -> None:
    """Run the steps of a recipe in an empty store."""
    path, storage_url = arguments
    recipe = load_recipe(path, (), storage_url)
    storage = Storage(recipe.storage)
    start = time.monotonic()
    with DaskCluster(recipe.cluster) as cluster:
        reporter, now = NullReporter(), datetime.now(UTC)
        context = Context(storage, recipe.seed, cluster, reporter, recipe.name, "plain", now)
        build_pipeline(PlainRunner(context), recipe)
    sys.stdout.write(f"{time.monotonic() - start}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
