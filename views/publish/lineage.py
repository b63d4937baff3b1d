"""What a registered model was made from, by its manifests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import Dataset, open_dataset, try_open_dataset
from infra.dataset.manifest import input_path
from infra.dataset.step import Output, Steps, steps_with_output
from infra.registry.versions import Version
from infra.store.storage import Storage


@dataclass(frozen=True)
class Provenance:
    """A version with the data sets that its model was made from, the nearest first.

    Attributes:
        version: of the registry.
        export: its release.
        ancestors: data sets that are in the store, by stage.
        missing: folders of data sets that were deleted.
        steps: the pipeline.
        test: the scores on the test examples of a fine-tuned model, if they are in the store.
    """

    version: Version
    export: Dataset
    ancestors: Sequence[Dataset]
    missing: Sequence[str]
    steps: Steps
    test: Dataset | None = None

    def datasets(self, output: Output) -> list[Dataset]:
        """Return the ancestors with this kind of output."""
        stages = steps_with_output(self.steps, output)
        return [data for data in self.ancestors if data.stage in stages]

    def dataset(self, output: Output) -> Dataset | None:
        """Return the nearest ancestor with this kind of output."""
        return next(iter(self.datasets(output)), None)

    @property
    def languages(self) -> Mapping[str, Mapping[str, Any]]:
        """Tokens, documents and bytes of the tokenized corpus by language."""
        tokens = self.dataset("tokens")
        return {} if tokens is None else tokens.stats.get("by_language", {})

    def licenses(self) -> dict[str, int]:
        """Count the documents of the corpus by license, the most frequent first."""
        counted: dict[str, int] = {}
        corpus = self.dataset("corpus")
        for part in corpus.parts if corpus is not None else ():
            for name in part.table(["license"])["license"].to_pylist():
                counted[name or "unknown"] = counted.get(name or "unknown", 0) + 1
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def trace_provenance(storage: Storage, version: Version, steps: Steps) -> Provenance:
    """Open a version's export and what it was made from.

    Raises:
        DatasetNotFoundError: if the export was deleted.
    """
    export = open_dataset(storage.subdir(*version.export.split("/")))
    found, missing = list[Dataset](), list[str]()
    for path in _walk(storage, export):
        data = try_open_dataset(storage, path)
        if data is None:
            missing.append(path)
        else:
            found.append(data)
    tests = steps_with_output(steps, "test_scores")
    scores = (try_open_dataset(storage, path) for path in version.scores)
    test = next((data for data in scores if data is not None and data.stage in tests), None)
    return Provenance(version, export, found, missing, steps, test)


def _walk(storage: Storage, export: Dataset) -> Iterator[str]:
    seen: set[str] = set()
    queue = [export]
    while queue:
        for item in queue.pop(0).manifest.inputs:
            path = input_path(item)
            if path in seen:
                continue
            seen.add(path)
            yield path
            data = try_open_dataset(storage, path)
            if data is not None:
                queue.append(data)
