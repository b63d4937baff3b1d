"""The removed examples of tasks: what was made from them, and which models were trained on them."""

import io
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.dataset.manifest import input_path
from infra.dataset.step import Output, Steps, steps_with_output
from infra.removals.examples import find_removed_examples
from infra.removals.match import Removal
from infra.schemas.examples import EXAMPLES_FILE
from infra.store.storage import Storage


def removed_examples(
    storage: Storage, data: Dataset, removals: Sequence[Removal], steps: Steps
) -> dict[str, Removal] | None:
    """Return the removal of each removed example that data was made from, by the example's id.

    Returns:
        ``None`` if the examples were deleted.
    """
    path = find_input(data, steps, "examples")
    examples = None if path is None else try_open_dataset(storage, path)
    if examples is None:
        return None
    found: dict[str, Removal] = {}
    for part in examples.parts:
        found |= find_removed_examples(part, removals)
    return found


def find_trained_examples(
    storage: Storage, model: Dataset, removals: Sequence[Removal], steps: Steps
) -> list[dict[str, Any]] | None:
    """Find the removed examples that a fine-tuned model was trained or validated on.

    Returns:
        ``id``, ``kind`` and ``value`` of the removal, ``split``, and ``tokens``, the path of the examples;
        ``None`` if they were deleted, or if the model starts from a released folder, of whose documents the
        store knows nothing.
    """
    path = find_input(model, steps, "examples")
    if path is None or EXAMPLES_FILE not in model.manifest.files or model.stats["from_folder"]:
        return None
    removed = removed_examples(storage, model, removals, steps)
    if removed is None:
        return None
    return [
        {**row, "kind": removal.kind, "value": removal.value, "tokens": path}
        for row in read_examples_file(model)
        if (removal := removed.get(row["id"]))
    ]


def read_examples_file(model: Dataset) -> list[dict[str, str]]:
    """Return ``id`` and ``split`` of the examples that a fine-tuned model was trained and validated on."""
    rows: list[dict[str, str]] = pq.read_table(io.BytesIO(model.read(EXAMPLES_FILE))).to_pylist()
    return rows


def find_input(data: Dataset, steps: Steps, output: Output) -> str | None:
    """Return the folder of a data set's input with this kind of output, if it has one."""
    stages = steps_with_output(steps, output)
    found = (item for item in data.manifest.inputs if item["stage"] in stages)
    return next(map(input_path, found), None)
