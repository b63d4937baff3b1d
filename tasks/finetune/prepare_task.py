"""The stage `prepare`: files of examples become a data set, split and without duplicates across splits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import U64
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.stage import Context, DatasetSpec, Stage, WorkUnit, build_dataset
from infra.removals.match import Removal, fingerprint_input
from infra.schemas.examples import SPLITS, example_schema
from tasks.finetune.data.overlap import OverlapIndex, find_ngrams
from tasks.finetune.data.splits import split_inputs
from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.files import TaskFile, TaskFileError, load_files
from tasks.finetune.prepare import (
    STAGE_NAME,
    prepare_examples,
    summarize_examples,
)

STAGE = Stage(
    STAGE_NAME,
    modules=("tasks.finetune.prepare_task",),
    libraries=("numpy", "pyarrow", "numba", "fasttext-community", "lxml", "orjson"),
)

OVERLAP_TASKS = 32  # over which the parts of the corpus are divided


def spec(
    ctx: Context,
    *,
    entry: FinetuneEntry,
    corpus: Dataset | None,
    removals: Sequence[Removal] = (),
) -> DatasetSpec:
    """Describe the examples of an entry's files.

    The corpus decides no example, only the statistics of the overlap: the content stays the same if
    it changes, and so no model is fine-tuned again. The same holds for removals that no example matches.

    Raises:
        TaskFileError: if a file cannot be read.
    """
    config = {"seed": ctx.seed, **entry.prepare_key()}
    inputs = () if corpus is None else (corpus,)
    outside = (*_digests(load_files(entry)), *fingerprint_input(removals))
    return DatasetSpec(STAGE, entry.name, config, inputs, outside)


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    entry: FinetuneEntry,
    corpus: Dataset | None,
    removals: Sequence[Removal] = (),
) -> Dataset:
    """Read the files and commit their examples.

    Returns:
        A data set with a part per file (``infra.schemas.examples``), and the statistics ``splits``,
        ``labels``, ``label_counts`` and ``overlap`` with the corpus.

    Raises:
        TaskFileError: if a file cannot be read, or has changed since the run began.
        TaskDataError: if a split is empty, or a label has one example.
    """
    files = load_files(entry)
    if (*_digests(files), *fingerprint_input(removals)) != spec.external_inputs:
        raise TaskFileError(
            f"finetune.{entry.name}.data: a file has changed since the run began; start it again"
        )
    key = [entry.name, [file.key for file in files], fingerprint_input(removals)]
    unit = WorkUnit(json_sha256(key), (entry, files, ctx.seed, removals))

    def stats(parts: Sequence[PartRef]) -> dict[str, Any]:
        tables = [part.table() for part in parts]
        examples = pa.concat_tables([example_schema(_task(entry)).empty_table(), *tables])
        own = summarize_examples(entry.task_name, examples)
        return (
            own
            if corpus is None
            else {**own, "overlap": find_overlap(ctx, entry, examples, corpus)}
        )

    return build_dataset(ctx, spec, [unit], prepare_examples, stats=stats)


def _digests(files: Sequence[TaskFile]) -> tuple[str, ...]:
    return tuple(json_sha256(file.key) for file in files)


def find_overlap(
    ctx: Context, entry: FinetuneEntry, examples: pa.Table, corpus: Dataset
) -> dict[str, dict[str, int]]:
    """Return, per split, how many examples share 13 words with the corpus.

    Returns:
        ``examples``, ``checked`` (those of at least 13 words) and ``found``.
    """
    index = OverlapIndex(split_inputs(_task(entry), examples))
    # Few tasks: each takes all n-grams of the examples along.
    parts = corpus.parts
    groups = [parts[number::OVERLAP_TASKS] for number in range(min(OVERLAP_TASKS, len(parts)))]
    found: U64 = np.zeros(0, np.uint64)
    for _, hashes in ctx.cluster.map(_find_in_parts, [(group, index.hashes) for group in groups]):
        found = np.union1d(found, hashes)
    hits, splits = index.hits(found), np.array(examples["split"].to_pylist())
    return {
        name: {
            "examples": int((splits == name).sum()),
            "checked": int((index.has_ngrams & (splits == name)).sum()),
            "found": int((hits & (splits == name)).sum()),
        }
        for name in SPLITS
    }


def _find_in_parts(parts: Sequence[PartRef], wanted: U64) -> U64:
    found: U64 = np.zeros(0, np.uint64)
    for part in parts:
        found = np.union1d(found, find_ngrams(wanted, part.table(["text"])["text"]))
    return found


def _task(entry: FinetuneEntry) -> Any:
    return entry.task_name
