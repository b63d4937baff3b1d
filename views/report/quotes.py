"""Examples of fine-tuning that a report may quote."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from infra.removals.examples import match_examples
from infra.removals.log import CorruptRemovalLogError, load_removals
from infra.schemas.examples import SOURCE
from views.report.report_run import ReportRun


def not_removed(run: ReportRun, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out the examples that were removed since: they must not be quoted."""
    if not rows:
        return []
    try:
        removals = load_removals(run.storage, run.record.recipe)
    except CorruptRemovalLogError:  # it stops the next run, but not a page about a past one
        return []
    columns = {
        name: pa.array([row.get(name) for row in rows], pa.string())
        for name in ("id", *SOURCE.names)
    }
    matches = match_examples(pa.table(columns), removals).tolist()
    return [row for row, match in zip(rows, matches, strict=True) if match < 0]
