"""The stage ``annotate``: every part of a source by itself; no document is dropped."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow as pa

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.failure_limit import FailureLimit
from infra.dataset.fingerprint import json_sha256
from infra.dataset.isolate_rows import apply_isolating_rows
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import (
    Context,
    DatasetSpec,
    PartResult,
    Stage,
    WorkUnit,
    build_dataset,
)
from infra.download.language_id import LID_SHA256, lid_model_path
from infra.formats.unicode_tables import UNICODE_VERSION
from infra.schemas.annotations import ANNOTATION_SCHEMA
from tasks.annotate.annotate_table import annotate_table
from tasks.annotate.config import AnnotateConfig
from tasks.annotate.signals.families import FAMILY_MODULES

STAGE = Stage(
    "annotate",
    # Families are imported by the names that are declared, where no import statement shows them.
    modules=("tasks.annotate.task", *FAMILY_MODULES),
    libraries=("fasttext-community", "numba", "numpy", "regex"),
    failure_limit=FailureLimit(1, 0.01),
)
INPUT_COLUMNS = ("id", "url", "text", "title", "chapters")


def spec(ctx: Context, *, config: AnnotateConfig, documents: Dataset) -> DatasetSpec:  # noqa: ARG001
    """The inputs and the configuration of a source's annotations."""
    provenance = {
        "model": LID_SHA256,
        "unicode": UNICODE_VERSION,
        "columns": {field.name: str(field.type) for field in ANNOTATION_SCHEMA},
    }
    return DatasetSpec(STAGE, documents.source, {**config.to_json(), **provenance}, (documents,))


def build(
    ctx: Context, spec: DatasetSpec, *, config: AnnotateConfig, documents: Dataset
) -> Dataset:
    """Annotate the documents.

    Returns:
        A data set whose parts have the documents' part names and are row-aligned with them; a
        document for which an annotator raised an error is ``failed`` in the ledger and has no row.

    Raises:
        TooManyFailuresError: if more than one document in a hundred failed.
    """
    # Parts that came from one unit (00007, 00007-001, ...) are one unit here, too, so that every
    # part gets the same name.
    groups = [
        tuple(parts)
        for _, parts in groupby(documents.parts, lambda part: part.name.partition("-")[0])
    ]
    units = [
        WorkUnit(
            json_sha256([part.content for part in parts]),
            (parts, config),
            sum(part.num_rows for part in parts),
        )
        for parts in groups
    ]
    return build_dataset(ctx, spec, units, annotate_parts)


def annotate_parts(parts: Sequence[PartRef], config: AnnotateConfig) -> Iterator[PartResult]:
    """Annotate the parts of one unit, on a worker."""
    lid_model_path()  # a missing model must fail the run, not the documents

    def annotate(documents: pa.Table) -> PartResult:
        ids, urls = documents["id"].to_pylist(), documents["url"].to_pylist()
        return PartResult(
            annotate_table(documents, config), ledger_table(STAGE.name, ids, urls=urls)
        )

    for part in parts:
        yield apply_isolating_rows(STAGE.name, part.table(INPUT_COLUMNS), annotate)
