"""From files to examples: read, split, deduplicated; every row has a verdict."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.failure_limit import FailureLimit
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import LEDGER_SCHEMA, Verdict, dropped, failed, verdict_table
from infra.dataset.stage import PartResult
from infra.errors import UserError
from infra.minhash.shingles import normalize
from infra.removals.examples import match_examples
from infra.removals.match import REMOVED, Removal
from infra.schemas.examples import EXAMPLES, SOURCE, SPLITS, Split, Task, example_schema
from tasks.finetune.config import ClassificationEntry
from tasks.finetune.data.config import LabelDataConfig
from tasks.finetune.data.groups import group_near_duplicates
from tasks.finetune.data.read import ReadOptions, read_examples
from tasks.finetune.data.records import DataFileError, Rejection
from tasks.finetune.data.splits import (
    assign_folds,
    draw_splits,
    example_ids,
    find_duplicates,
    near_duplicates,
    split_inputs,
)
from tasks.finetune.data.swapped import find_swapped
from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.files import TaskFile

STAGE_NAME = "prepare"
SEVERAL_LABELS = "several_labels"


MAX_REJECTED = FailureLimit(20, 0.5)  # rows that may be no examples


class TaskDataError(UserError):
    """Examples that no model can be fine-tuned or tested on; the message names the field."""


def read_options(entry: FinetuneEntry) -> ReadOptions:
    """Return how the files of an entry are read."""
    data = entry.data
    labels = data if isinstance(data, LabelDataConfig) else None
    return ReadOptions(
        data.format,
        data.columns,
        data.header,
        data.delimiter,
        data.encoding,
        labels.labels if labels else (),
        labels.label_separator if labels else None,
    )


def prepare_examples(
    entry: FinetuneEntry, files: Sequence[TaskFile], seed: int, removals: Sequence[Removal] = ()
) -> Iterator[PartResult]:
    """Make the examples of all files of an entry, a part per file.

    Files are done together, because a duplicate may be in another one.

    Args:
        entry: how they are read and split.
        files: their bytes.
        seed: of splits and folds.
        removals: what was removed from the recipe: examples, or what they are from.

    Raises:
        TaskDataError: if a split is empty, or a label has one example.
    """
    task = cast("Task", entry.task_name)
    read = [_read_file(entry, task, file) for file in files]
    # Of a task's columns, `row`, and where each is from.
    examples = pa.concat_tables([table for table, _ in read])
    examples = _fill_license(examples, entry.data.license)
    owners = [number for number, (table, _) in enumerate(read) for _ in range(table.num_rows)]
    ids, inputs = example_ids(task, examples), split_inputs(task, examples)
    queries = examples["query"].to_pylist() if task == "embedding" else None
    drawn = draw_splits(inputs, seed, entry.data.validation_fraction, entry.data.test_fraction)
    splits = [
        own if files[owner].split == "files" else cast("Split", files[owner].split)
        for own, owner in zip(drawn, owners, strict=True)
    ]
    verdicts = [Verdict()] * len(ids)
    if task == "classification" and not getattr(entry, "multi_label", False):
        for index, labels in enumerate(examples["labels"].to_pylist()):
            if len(labels) != 1:
                verdicts[index] = failed(SEVERAL_LABELS, labels=labels)
    for index in _find_swapped(entry, examples):
        verdicts[index] = failed("swapped_languages", languages=getattr(entry, "languages"))  # noqa: B009
    sources = examples.select(SOURCE.names).append_column("id", pa.array(ids, pa.string()))
    for index, match in enumerate(match_examples(sources, removals).tolist()):
        if match >= 0:
            verdicts[index] = dropped(REMOVED, **removals[match].to_json())
    # An example that failed or was removed is no duplicate, and nothing is a duplicate of it.
    rest = [index for index, verdict in enumerate(verdicts) if verdict.kept]
    found = find_duplicates(
        [ids[index] for index in rest],
        [inputs[index] for index in rest],
        [splits[index] for index in rest],
        near_duplicates(entry.data.near_duplicate_threshold, seed),
        None if queries is None else [queries[index] for index in rest],
    )
    for index, verdict in zip(rest, found, strict=True):
        verdicts[index] = verdict
    lost = [
        (file.names[0], item) for file, (_, own) in zip(files, read, strict=True) for item in own
    ]
    places = [
        (files[owner].names[0], row)
        for owner, row in zip(owners, examples["row"].to_pylist(), strict=True)
    ]
    lost += [
        (name, Rejection(row, verdict.reason, json.dumps(verdict.evidence), failed=verdict.failed))
        for (name, row), verdict in zip(places, verdicts, strict=True)
        if verdict.reason is not None
    ]
    check_rejected(entry, sum(verdict.kept for verdict in verdicts), lost)
    _check_splits(entry, [s for s, v in zip(splits, verdicts, strict=True) if v.kept], lost)
    if task == "classification":
        _check_labels(entry, examples["labels"].to_pylist(), verdicts, places)
    folds = _assign_folds(entry, examples, inputs, splits, verdicts, seed)
    table = examples.select([*SOURCE.names, *EXAMPLES[task].names])
    rows = examples["row"]
    for number, (file, (own, rejected)) in enumerate(zip(files, read, strict=True)):
        own_rows = [index for index, owner in enumerate(owners) if owner == number]
        kept = [index for index in own_rows if verdicts[index].kept]
        name = file.names[0]
        origin = {
            "id": pa.array([ids[i] for i in kept], pa.string()),
            "split": pa.array([splits[i] for i in kept], pa.string()),
            "file": pa.array([name] * len(kept), pa.string()),
            "row": rows.take(pa.array(kept, pa.int64())).combine_chunks(),
            "fold": pa.array([folds.get(i) for i in kept], pa.int32()),
        }
        columns = table.take(pa.array(kept, pa.int64()))
        result = pa.table(
            {**{column: columns[column] for column in columns.column_names}, **origin},
            schema=example_schema(task),
        )
        numbers = rows.to_pylist()
        ledger = [(ids[i], f"{name}:{numbers[i]}", verdicts[i]) for i in own_rows]
        ledger += [_rejection(name, item) for item in rejected]
        assert own.num_rows == len(own_rows)
        yield PartResult(
            result, verdict_table(STAGE_NAME, ledger) if ledger else LEDGER_SCHEMA.empty_table()
        )


def summarize_examples(task: str, examples: pa.Table) -> dict[str, Any]:
    """Return the statistics of a data set of examples: numbers per split, labels and their numbers."""
    splits = examples["split"].to_pylist()
    counts = Counter(splits)
    stats: dict[str, Any] = {"task": task, "splits": {name: counts[name] for name in SPLITS}}
    column = {"classification": "labels", "tagging": "tags"}.get(task)
    if column is not None:
        by_split: dict[str, Counter[str]] = {name: Counter() for name in SPLITS}
        for split, labels in zip(splits, examples[column].to_pylist(), strict=True):
            by_split[split].update(labels)
        names = sorted({name for counter in by_split.values() for name in counter})
        stats["labels"] = names
        stats["label_counts"] = {
            split: dict(sorted(counter.items())) for split, counter in by_split.items()
        }
    return stats


def _fill_license(examples: pa.Table, license_: str | None) -> pa.Table:
    """Give the entry's license to the examples that state none of their own."""
    if license_ is None:
        return examples
    index = examples.schema.get_field_index("license")
    return examples.set_column(index, "license", pc.fill_null(examples["license"], license_))


def _read_file(
    entry: FinetuneEntry, task: Task, file: TaskFile
) -> tuple[pa.Table, list[Rejection]]:
    target = (file.data[1], file.names[1]) if len(file.data) > 1 else None
    try:
        return read_examples(
            file.data[0], name=file.names[0], task=task, options=read_options(entry), target=target
        )
    except DataFileError as error:
        raise TaskDataError(f"finetune.{entry.name}.data.{file.split}: {error}") from None


def _rejection(name: str, item: Rejection) -> tuple[str, str, Verdict]:
    make = failed if item.failed else dropped
    key = json_sha256([name, item.row, item.reason])[:32]
    return key, f"{name}:{item.row}", make(item.reason, message=item.message)


def _find_swapped(entry: FinetuneEntry, examples: pa.Table) -> list[int]:
    """Return the pairs whose languages are the wrong way round, if the entry names the languages."""
    languages: tuple[str, str] | None = getattr(entry, "languages", None)
    if languages is None:
        return []
    sides = examples["source"].to_pylist(), examples["target"].to_pylist()
    return [i for i, swapped in enumerate(find_swapped(*sides, languages)) if swapped]


def check_rejected(
    entry: FinetuneEntry, examples: int, rejected: Sequence[tuple[str, Rejection]]
) -> None:
    """Raise ``TaskDataError`` if most rows are no examples: columns or labels are named wrongly.

    Args:
        entry: of the files.
        examples: number of rows that are kept.
        rejected: file and reason of each of the others.
    """
    failures = [(name, item) for name, item in rejected if item.failed]
    count = examples + len(rejected)
    if len(failures) > max(MAX_REJECTED.documents, MAX_REJECTED.fraction * count):
        raise TaskDataError(
            f"finetune.{entry.name}.data: {len(failures):,} of {count:,} rows are no examples "
            f"({_describe(failures)}); at most {MAX_REJECTED.fraction:.0%} may: check the columns, the labels and "
            "the format"
        )


def _describe(rejected: Sequence[tuple[str, Rejection]]) -> str:
    """Return the reasons with their numbers, and where the first of them is."""
    counts = Counter(item.reason for _, item in rejected)
    name, first = rejected[0]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())
    return f"{reasons}; the first: {name}:{first.row}: {first.message}"


def _check_splits(
    entry: FinetuneEntry, splits: Sequence[Split], rejected: Sequence[tuple[str, Rejection]]
) -> None:
    counts = Counter[str](splits)
    needed = ["train", "test"]
    if entry.optim.early_stopping_patience or len(entry.optim.lr_grid) > 1:
        needed.append("validation")
    for name in needed:
        if not counts[name]:
            field = f"finetune.{entry.name}.data"
            detail = (
                "" if name == "train" else f"; raise {name}_fraction, or name files under {name}"
            )
            lost = f" ({_describe(rejected)})" if rejected else ""
            raise TaskDataError(f"{field}: no example is left for the split {name}{lost}{detail}")


def _check_labels(
    entry: FinetuneEntry,
    labels: Sequence[Sequence[str]],
    verdicts: Sequence[Verdict],
    places: Sequence[tuple[str, int]],
) -> None:
    kept = [
        (label, place)
        for own, verdict, place in zip(labels, verdicts, places, strict=True)
        if verdict.kept
        for label in own
    ]
    counts = Counter(label for label, _ in kept)
    field = f"finetune.{entry.name}.data"
    rare = min((label for label, count in counts.items() if count == 1), default=None)
    if rare is not None:
        file, row = next(place for label, place in kept if label == rare)
        raise TaskDataError(
            f"{field}: the label {rare!r} has one example ({file}:{row}), which cannot be both trained on and "
            "tested; name the labels to keep under data.labels"
        )
    if len(counts) < (1 if getattr(entry, "multi_label", False) else 2):
        raise TaskDataError(
            f"{field}: there is one label, {next(iter(counts), '')!r}: nothing to tell apart"
        )


def _assign_folds(
    entry: FinetuneEntry,
    examples: pa.Table,
    inputs: Sequence[str],
    splits: Sequence[Split],
    verdicts: Sequence[Verdict],
    seed: int,
) -> Mapping[int, int]:
    """Return the fold of each training example by its index; none without cross-validation."""
    if not isinstance(entry, ClassificationEntry) or not entry.folds:
        return {}
    rows = [i for i, split in enumerate(splits) if split == "train" and verdicts[i].kept]
    strata = ["\n".join(labels) for labels in examples["labels"].to_pylist()]
    keys = [normalize(inputs[i]) for i in rows]
    if near := near_duplicates(entry.data.near_duplicate_threshold, seed):
        distinct = list(dict.fromkeys(keys))
        groups = group_near_duplicates(distinct, near)
        first = {key: distinct[group] for key, group in zip(distinct, groups, strict=True)}
        keys = [first[key] for key in keys]
    try:
        folds = assign_folds(keys, [strata[i] for i in rows], entry.folds, seed)
    except ValueError as error:
        raise TaskDataError(f"finetune.{entry.name}.folds: {error}") from None
    return dict(zip(rows, folds, strict=True))
