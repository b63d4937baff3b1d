"""A stage as the flows see it: what it would make, and how it makes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import Dataset, DatasetNotFoundError, open_dataset
from infra.dataset.stage import Context, DatasetSpec


@dataclass(frozen=True)
class Step:
    """One stage of the road.

    Attributes:
        name: the stage's name, as in ``--until``.
        spec: ``spec(ctx, **inputs) -> Spec``; cheap and without side effects, so that a plan can
            ask what would be made.
        build: ``build(ctx, spec, **inputs) -> Dataset``; does the work and commits.
    """

    name: str
    spec: Callable[..., DatasetSpec]
    build: Callable[..., Dataset]

    def lookup(self, ctx: Context, **inputs: Any) -> tuple[DatasetSpec, Dataset | None]:
        """What would be made of these inputs, and the committed data set if it is there."""
        spec = self.spec(ctx, **inputs)
        try:
            return spec, open_dataset(ctx.storage.subdir(*spec.folder.split("/")))
        except DatasetNotFoundError:
            return spec, None
