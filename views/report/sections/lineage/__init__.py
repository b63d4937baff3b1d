"""What each data set was made from, the versions used, and the recipe."""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from infra.dataset.dataset import Dataset
from infra.runs.run_records import StageRecord
from views.report.formatting import short_digest
from views.report.report_run import ReportRun, Section


@dataclass(frozen=True)
class LineageRow:
    """A data set, ``None`` if it was deleted, and the labels of those that it was made from."""

    entry: StageRecord
    dataset: Dataset | None
    inputs: Sequence[str]


@dataclass(frozen=True)
class Lineage:
    """The rows of the table, and the recipe as YAML."""

    rows: Sequence[LineageRow]
    recipe: str


def collect(run: ReportRun) -> Lineage:
    """Return a row per data set of the run."""
    labels = {entry.fingerprint: entry.label for entry in run.record.stages}
    rows = []
    for entry, data in run.opened:
        inputs = [
            labels.get(item["fingerprint"], f"{item['stage']} {short_digest(item['fingerprint'])}")
            for item in (data.manifest.inputs if data is not None else ())
        ]
        rows.append(LineageRow(entry, data, inputs))
    recipe = yaml.safe_dump(dict(run.record.config), sort_keys=False, allow_unicode=True)
    return Lineage(rows, recipe)


SECTION = Section("lineage", "Lineage", collect)
