"""A run whose store cannot be reached at first: ``python -m tests.e2e.flaky RECIPE``."""

import sys
from pathlib import Path
from typing import Any

import flows.runner
from flows.execute import StepResult, execute_step
from flows.pipeline import pipeline
from flows.recipe_loader import load_recipe


def main(recipe: str) -> None:
    """Run up to ``acquire``, whose first attempt meets a network error."""
    tried = Path(recipe).with_suffix(".tried")

    def once(*given: Any) -> StepResult:
        if not tried.exists():
            tried.touch()
            raise ConnectionResetError("the store hung up")
        return execute_step(*given)

    flows.runner.execute_step = once  # type: ignore[assignment,attr-defined]
    flows.runner.RETRY_DELAYS_S = (0.1, 0.1)
    pipeline(load_recipe(recipe), "acquire")


if __name__ == "__main__":
    main(sys.argv[1])
