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
    """A data set and its inputs.

    Attributes:
        entry: the run's record of it.
        exists: whether it is still in the store; the other values are empty if not.
        content: digest of its content.
        code: the stage's code version.
        bytes: total size of its files.
        parts: number of its parts.
        inputs: labels of the data sets that it was made from.
    """

    entry: StageRecord
    exists: bool
    content: str
    code: str
    bytes: int
    parts: int
    inputs: Sequence[str]


@dataclass(frozen=True)
class Lineage:
    """The rows of the table, and the recipe as YAML."""

    rows: Sequence[LineageRow]
    recipe: str


def collect(run: ReportRun) -> Lineage:
    """Return a row per data set of the run."""
    labels = {entry.fingerprint: entry.label for entry in run.record.stages}
    rows = [_build_row(entry, data, labels) for entry, data in run.opened]
    recipe = yaml.safe_dump(dict(run.record.config), sort_keys=False, allow_unicode=True)
    return Lineage(rows, recipe)


def _build_row(entry: StageRecord, data: Dataset | None, labels: dict[str, str]) -> LineageRow:
    if data is None:
        return LineageRow(entry, False, "", "", 0, 0, ())
    return LineageRow(
        entry,
        True,
        data.content,
        str(data.manifest.provenance["code"]),
        sum(file.bytes for file in data.manifest.all_files),
        len(data.manifest.parts),
        [
            labels.get(item["fingerprint"], f"{item['stage']} {short_digest(item['fingerprint'])}")
            for item in data.manifest.inputs
        ],
    )


SECTION = Section("lineage", "Lineage", collect)
