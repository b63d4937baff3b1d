"""Which models saw what was removed since: the documents, and the steps whose batches held them.

A data set that is committed is never written to, so a model's mark stands beside the removals:
``removals/{recipe}/models/{fingerprint}.json``, and a table of the documents as ``.parquet``. Marks
follow from removals, token shards and the order of the training; they are made again when the
removals change. Of a model whose token shards are gone, the last mark stays as it is.

A model that started with the weights of another has seen what that one saw.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import (
    Dataset,
    DatasetNotFoundError,
    IntegrityError,
    input_path,
    open_dataset,
)
from infra.dataset.fingerprint import json_sha256
from infra.dataset.tables import table_bytes
from infra.formats.megatron import TRAIN
from infra.removals.log import REMOVALS_FOLDER
from infra.removals.match import Removal, fingerprint_input, match_part, match_table
from infra.store.storage import Storage

StepLookup = Callable[[Dataset, int, int], list[int]]

MODELS = "models"
UNKNOWN_REASON = "its token shards, or those of a model it started from, are gone"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("kind", pa.string()),
        ("value", pa.string()),
        ("first_token", pa.int64()),
        ("end_token", pa.int64()),
        ("steps", pa.list_(pa.int64())),
        ("via_models", pa.list_(pa.string())),
    ]
)
TOKEN_RANGE_SCHEMA = pa.schema([SCHEMA.field(place) for place in range(6)])  # in token shards


@dataclass(frozen=True)
class ExposureRecord:
    """What a model saw of the documents that are removed.

    Attributes:
        model: its name in the recipe that trained it.
        path: its data set, relative to the storage root.
        fingerprint: the data set's.
        removals_digest: digest of the removals that this was found out for.
        documents: removed documents that it, or a model it started from, was trained on; ``None`` if
            that cannot be told.
        tokens: their tokens in the training split, each counted once.
        steps: its own training steps whose batches held any of them.
        first_step: the first of these, 0-based; ``None`` if there is none.
        last_step: the last of these.
        total_steps: steps of the whole training.
        by_removal: documents by what removed them: kind, value, documents.
        table: the documents, each with its steps, as a Parquet file; relative to the storage root.
        via_models: the models it started from that saw any of them, nearest first: model, documents.
    """

    model: str
    path: str
    fingerprint: str
    removals_digest: str
    documents: int | None
    tokens: int = 0
    steps: int = 0
    first_step: int | None = None
    last_step: int | None = None
    total_steps: int = 0
    by_removal: Sequence[Mapping[str, Any]] = ()
    table: str | None = None
    via_models: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        lists = {"by_removal": self.by_removal, "via_models": self.via_models}
        return {**asdict(self), **{key: [*map(dict, value)] for key, value in lists.items()}}

    def __str__(self) -> str:
        name = f"model {self.model} ({self.path})"
        if self.documents is None:
            return f"{name}: {UNKNOWN_REASON}, so what it saw cannot be told"
        some = (
            "1 removed document" if self.documents == 1 else f"{self.documents:,} removed documents"
        )
        where = [f"in {self.steps:,} of its {self.total_steps:,} steps"]
        if self.steps:
            where[0] += f", {self.first_step} to {self.last_step}"
        where += [f"{item['documents']:,} through {item['model']}" for item in self.via_models]
        return f"{name} saw {some}, {self.tokens:,} tokens, {', '.join(where)}"


def update_exposure(
    storage: Storage, recipe: str, removals: Sequence[Removal], step_lookup: StepLookup
) -> list[ExposureRecord]:
    """Find out which models of a store saw what a recipe removed, and mark them.

    Models of other recipes that share the store are looked at too: a text was seen or not, whoever
    trained on it. What was found out for the same removals before is not looked up again.

    Args:
        storage: the root of the store.
        recipe: whose removals these are.
        removals: what is in force.
        step_lookup: ``step_lookup(train data set, first token, one past the last) -> steps`` whose batches
            held any of these tokens of the training split.

    Returns:
        The marks of the models that saw something or of which it cannot be told.
    """
    known = {mark.fingerprint: mark for mark in _read_records(storage, recipe)}
    if not removals and not known:
        return []
    now = json_sha256(fingerprint_input(removals))
    seen: dict[str, pa.Table | None] = {}
    marks = []

    def documents(one: Dataset) -> pa.Table | None:
        tokens = _input_path(one, "tokenize")
        if tokens not in seen:
            seen[tokens] = _find_token_ranges(storage, tokens, removals)
        return seen[tokens]

    for folder in storage.list_folders("train"):
        try:
            model = open_dataset(storage.subdir("train", folder))
        except (DatasetNotFoundError, IntegrityError):
            continue
        mark = known.get(model.fingerprint)
        if mark is None or mark.removals_digest != now:
            table = _find_exposed_documents(storage, model, documents, step_lookup)
            mark = _write_record(storage, recipe, f"train/{folder}", model, table, now, mark)
        marks.append(mark)
    return [mark for mark in marks if mark.documents != 0]


def load_exposure(storage: Storage, recipe: str) -> list[ExposureRecord]:
    """The marks of a recipe as they were written last; models that saw nothing are left out."""
    return [mark for mark in _read_records(storage, recipe) if mark.documents != 0]


def parent_models(storage: Storage, model: Dataset) -> list[Dataset]:
    """The models whose weights a model started with, nearest first.

    Raises:
        DatasetNotFoundError: if one of them is gone.
    """
    found: list[Dataset] = []
    while True:
        youngest = found[-1] if found else model
        made = [item for item in youngest.manifest.inputs if item["stage"] == youngest.stage]
        if not made:
            return found
        found.append(open_dataset(storage.subdir(*input_path(made[0]).split("/"))))


def exposed_steps(storage: Storage, record: ExposureRecord, document: str) -> list[int] | None:
    """The steps at which a marked model saw a document; ``None`` if it is not among those removed."""
    if record.table is None:
        return None
    with storage.open(record.table) as stream:
        rows = pq.read_table(
            stream, columns=["id", "steps"], filters=[("id", "=", document)]
        ).to_pylist()
    return sorted({step for row in rows for step in row["steps"]}) if rows else None


def exposed_via_models(storage: Storage, record: ExposureRecord, document: str) -> list[str]:
    """The models it started from through which a marked model saw a document."""
    if record.table is None or not record.via_models:
        return []
    with storage.open(record.table) as stream:
        rows = pq.read_table(
            stream, columns=["id", "via_models"], filters=[("id", "=", document)]
        ).to_pylist()
    return list(dict.fromkeys(name for row in rows for name in row["via_models"]))


def _find_exposed_documents(
    storage: Storage,
    model: Dataset,
    documents: Callable[[Dataset], pa.Table | None],
    step_lookup: StepLookup,
) -> pa.Table | None:
    """The removed documents that a model saw, itself or through those it started from: `SCHEMA`.

    ``None`` if a model or token shards on the way are gone.
    """
    try:
        older = parent_models(storage, model)
    except (DatasetNotFoundError, IntegrityError):
        return None
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in (model, *older):
        table = documents(one)
        if table is None:
            return None
        tokens = _input_path(one, "tokenize")
        for row in table.to_pylist():
            first, end = row["first_token"], row["end_token"]
            at = step_lookup(one, first, end)
            if not at:
                continue
            own = rows.setdefault((tokens, first), {**row, "steps": [], "via_models": []})
            if one is model:
                own["steps"] = at
            else:
                own["via_models"].append(one.source)
    return pa.Table.from_pylist(list(rows.values()), SCHEMA)


def _input_path(data: Dataset, stage: str) -> str:
    """The folder of a data set's input that this stage made."""
    return input_path(next(item for item in data.manifest.inputs if item["stage"] == stage))


def _try_open(storage: Storage, path: str) -> Dataset | None:
    try:
        return open_dataset(storage.subdir(*path.split("/")))
    except (DatasetNotFoundError, IntegrityError):
        return None


def _find_token_ranges(storage: Storage, path: str, removals: Sequence[Removal]) -> pa.Table | None:
    """The removed documents in the training split of token shards: `TOKEN_RANGE_SCHEMA`.

    ``None`` if the shards, or the corpus that knows licences, are gone.
    """
    tokens = _try_open(storage, path)
    if tokens is None:
        return None
    by_id = removed_documents(storage, tokens, removals)
    if by_id is None:
        return None
    size = np.dtype(str(tokens.stats.get("dtype", "uint16"))).itemsize
    names = pa.array(list(by_id), pa.string())
    before = 0
    tables = [TOKEN_RANGE_SCHEMA.empty_table()]
    for part in tokens.parts:
        file = part.record.files.get(f"{TRAIN}.bin")
        if file is None:
            continue
        table = part.table(["id", "url", "split", "tokens", "offset"])
        hit = pc.and_(pc.equal(table["split"], TRAIN), pc.is_in(table["id"], value_set=names))
        table = table.filter(hit)
        gone = [by_id[name] for name in table["id"].to_pylist()]
        first = pc.add(table["offset"], before)
        columns = {
            "id": table["id"],
            "url": table["url"],
            "kind": [item.kind for item in gone],
            "value": [item.value for item in gone],
            "first_token": first,
            "end_token": pc.add(first, table["tokens"]),
        }
        tables.append(pa.table(columns, schema=TOKEN_RANGE_SCHEMA))
        before += file.bytes // size
    return pa.concat_tables(tables)


def removed_documents(
    storage: Storage, tokens: Dataset, removals: Sequence[Removal]
) -> dict[str, Removal] | None:
    """What removes each document of the corpus that was made into tokens, by id.

    ``None`` if the corpus, which alone knows licences, is gone and a licence is removed.
    """
    found: dict[str, Removal] = {}
    corpus = _try_open(storage, _input_path(tokens, "select"))
    if corpus is None and any(gone.kind == "license" for gone in removals):
        return None  # token shards name ids and addresses, but no licences
    for part in (corpus or tokens).parts:
        if corpus is not None:
            ids, gone = part.table(["id"])["id"], match_part(part, removals)
        else:
            table = part.table(["id", "url"])
            ids, gone = table["id"], match_table(table, removals)
        rows = np.flatnonzero(gone >= 0)
        for name, place in zip(ids.take(rows).to_pylist(), gone[rows].tolist(), strict=True):
            found[name] = removals[place]
    return found


def _write_record(
    storage: Storage,
    recipe: str,
    path: str,
    model: Dataset,
    table: pa.Table | None,
    removals_digest: str,
    previous: ExposureRecord | None,
) -> ExposureRecord:
    """Write down what a model saw."""
    name = f"{REMOVALS_FOLDER}/{recipe}/{MODELS}/{model.fingerprint}"
    if table is None:
        if previous is not None:
            return previous
        mark = ExposureRecord(str(model.source), path, model.fingerprint, removals_digest, None)
        storage.write(f"{name}.json", _to_bytes(mark))
        return mark
    every = pc.unique(pc.list_flatten(table["steps"]))
    by = Counter(zip(table["kind"].to_pylist(), table["value"].to_pylist(), strict=True))
    lengths = pc.subtract(table["end_token"], table["first_token"])
    mark = ExposureRecord(
        str(model.source),
        path,
        model.fingerprint,
        removals_digest,
        table.num_rows,
        int(pc.sum(lengths).as_py() or 0),
        len(every),
        pc.min(every).as_py(),
        pc.max(every).as_py(),
        int(model.stats.get("steps", 0)),
        [
            {"kind": kind, "value": value, "documents": count}
            for (kind, value), count in sorted(by.items())
        ],
        f"{name}.parquet" if table.num_rows else None,
        [
            {"model": older, "documents": count}
            for older, count in Counter(pc.list_flatten(table["via_models"]).to_pylist()).items()
        ],
    )
    if mark.table:
        storage.write(mark.table, table_bytes(table))
    else:
        storage.remove(f"{name}.parquet")
    storage.write(f"{name}.json", _to_bytes(mark))
    return mark


def _to_bytes(record: ExposureRecord) -> bytes:
    return json.dumps(record.to_json(), indent=1, ensure_ascii=False).encode() + b"\n"


def _read_records(storage: Storage, recipe: str) -> list[ExposureRecord]:
    found = []
    for path in storage.list_files(f"{REMOVALS_FOLDER}/{recipe}/{MODELS}"):
        if path.endswith(".json"):
            try:
                found.append(ExposureRecord(**json.loads(storage.read(path))))
            except (ValueError, TypeError):
                continue  # damaged: it is made again
    return found
