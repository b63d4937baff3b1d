"""Read the suites of a recipe: files of suites, and tasks of lm-evaluation-harness."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.suites.harness import load_harness_suite
from tasks.suites.items import Suite, SuiteError, load_suite

# A path or URL of a suite's YAML file, or a task of lm-eval and its data.
SuiteEntry = str | Mapping[str, Any]


def load_suites(entries: Sequence[SuiteEntry]) -> list[Suite]:
    """Read the suites that a recipe names under ``evaluate.suites``.

    Raises:
        SuiteError: if a file is missing or has another form, or two suites have the same name.
    """
    suites: list[Suite] = []
    for number, entry in enumerate(entries):
        field = f"evaluate.suites.{number}"
        if isinstance(entry, str):
            suite, where = load_suite(entry, field), entry
        else:
            suite, where = load_harness_suite(entry, field), entry["harness"]
        if any(other.name == suite.name for other in suites):
            raise SuiteError(
                f"{field}: {where!r}: another suite is named {suite.name!r}, too; give one a `name` of its own"
            )
        suites.append(suite)
    return suites
