"""A run whose store is unreachable at first: ``python -m tests.e2e.flaky RECIPE``."""

import sys
from pathlib import Path
from typing import Any

import flows.runner
import flows.step_errors
from flows.execute import StepResult, execute_step
from flows.pipeline import pipeline
from flows.recipe_loader import load_recipe


def main(recipe: str) -> None:
    """Run up to ``acquire``, whose first attempt fails with a network error."""
    marker = Path(recipe).with_suffix(".tried")

    def fail_once(*arguments: Any) -> StepResult:
        if not marker.exists():
            marker.touch()
            raise ConnectionResetError("the store closed the connection")
        return execute_step(*arguments)

    flows.runner.execute_step = fail_once  # type: ignore[assignment,attr-defined]
    flows.step_errors.RETRY_DELAYS_S = (0.1, 0.1)
    pipeline(load_recipe(recipe), "acquire")


if __name__ == "__main__":
    main(sys.argv[1])
