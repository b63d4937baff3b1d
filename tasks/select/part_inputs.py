"""One part of the documents with its annotations and duplicate labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.arrays import I64
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.ledger import KEPT
from infra.dataset.manifest import IntegrityError


@dataclass(frozen=True)
class PartInputs:
    """A part of the documents with its annotations and duplicate labels. Picklable.

    Attributes:
        source_index: index of the source in the recipe.
        documents: the texts.
        annotations: one row per document that ``annotate`` kept.
        duplicate_labels: one row per document.
    """

    source_index: int
    documents: PartRef
    annotations: PartRef
    duplicate_labels: PartRef

    @property
    def contents(self) -> list[str]:
        """The digests of the three parts."""
        return [self.documents.content, self.annotations.content, self.duplicate_labels.content]

    @cached_property
    def annotated_rows(self) -> I64 | None:
        """The rows of documents that have annotations; ``None`` if all have."""
        if self.annotations.num_rows == self.documents.num_rows:
            return None
        return np.flatnonzero(pc.equal(self.annotations.verdicts()["verdict"], KEPT).to_numpy())

    def read_annotated(self, part: PartRef, names: Sequence[str] | None = None) -> pa.Table:
        """Read the rows of ``documents`` or ``duplicate_labels`` that have annotations."""
        table = part.table(names)
        return table if self.annotated_rows is None else table.take(self.annotated_rows)


def align_parts(
    documents: Sequence[Dataset], annotations: Sequence[Dataset], duplicate_labels: Dataset
) -> list[PartInputs]:
    """Return the parts of all sources, in the order of the recipe.

    Raises:
        IntegrityError: if the rows of the data sets do not match.
    """
    aligned = []
    all_labels = iter(duplicate_labels.parts)
    for source_index, (data, columns) in enumerate(zip(documents, annotations, strict=True)):
        for texts, annotated in zip(data.parts, columns.parts, strict=True):
            labels = next(all_labels)
            if (
                annotated.name != texts.name
                or labels.num_rows != texts.num_rows
                or annotated.num_rows > texts.num_rows
            ):
                raise IntegrityError(
                    f"{texts.storage.url} part {texts.name}: {texts.num_rows} documents, but "
                    f"{annotated.num_rows} annotations in part {annotated.name} and "
                    f"{labels.num_rows} duplicate labels"
                )
            aligned.append(PartInputs(source_index, texts, annotated, labels))
    return aligned
