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
    BrokenPromise,
    Dataset,
    NotCommitted,
    input_path,
    open_dataset,
    table_bytes,
)
from infra.dataset.fingerprint import digest
from infra.formats.megatron import TRAIN
from infra.removals.log import FOLDER
from infra.removals.match import Removal, raw, removed, removed_of
from infra.store.storage import Storage

Steps = Callable[[Dataset, int, int], list[int]]

MODELS = "models"
GONE = "its token shards, or those of a model it started from, are gone"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("kind", pa.string()),
        ("value", pa.string()),
        ("first_token", pa.int64()),
        ("end_token", pa.int64()),
        ("steps", pa.list_(pa.int64())),
        ("through", pa.list_(pa.string())),
    ]
)
FOUND = pa.schema([SCHEMA.field(place) for place in range(6)])  # in token shards


@dataclass(frozen=True)
class Mark:
    """What a model saw of the documents that are removed.

    Attributes:
        model: its name in the recipe that trained it.
        path: its data set, relative to the storage root.
        fingerprint: the data set's.
        removals: digest of the removals that this was found out for.
        documents: removed documents that it, or a model it started from, was trained on; ``None`` if
            that cannot be told.
        tokens: their tokens in the training split, each counted once.
        steps: its own training steps whose batches held any of them.
        first_step: the first of these, 0-based; ``None`` if there is none.
        last_step: the last of these.
        of_steps: steps of the whole training.
        by_removal: documents by what removed them: kind, value, documents.
        table: the documents, each with its steps, as a Parquet file; relative to the storage root.
        through: the models it started from that saw any of them, nearest first: model, documents.
    """

    model: str
    path: str
    fingerprint: str
    removals: str
    documents: int | None
    tokens: int = 0
    steps: int = 0
    first_step: int | None = None
    last_step: int | None = None
    of_steps: int = 0
    by_removal: Sequence[Mapping[str, Any]] = ()
    table: str | None = None
    through: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        lists = {"by_removal": self.by_removal, "through": self.through}
        return {**asdict(self), **{key: [*map(dict, value)] for key, value in lists.items()}}

    def __str__(self) -> str:
        name = f"model {self.model} ({self.path})"
        if self.documents is None:
            return f"{name}: {GONE}, so what it saw cannot be told"
        some = (
            "1 removed document" if self.documents == 1 else f"{self.documents:,} removed documents"
        )
        where = [f"in {self.steps:,} of its {self.of_steps:,} steps"]
        if self.steps:
            where[0] += f", {self.first_step} to {self.last_step}"
        where += [f"{item['documents']:,} through {item['model']}" for item in self.through]
        return f"{name} saw {some}, {self.tokens:,} tokens, {', '.join(where)}"


def mark_models(
    storage: Storage, recipe: str, removals: Sequence[Removal], steps: Steps
) -> list[Mark]:
    """Find out which models of a store saw what a recipe removed, and mark them.

    Models of other recipes that share the store are looked at too: a text was seen or not, whoever
    trained on it. What was found out for the same removals before is not looked up again.

    Args:
        storage: the root of the store.
        recipe: whose removals these are.
        removals: what is in force.
        steps: ``steps(train data set, first token, one past the last) -> steps`` whose batches
            held any of these tokens of the training split.

    Returns:
        The marks of the models that saw something or of which it cannot be told.
    """
    known = {mark.fingerprint: mark for mark in _read_all(storage, recipe)}
    if not removals and not known:
        return []
    now = digest(raw(removals))
    seen: dict[str, pa.Table | None] = {}
    marks = []

    def documents(one: Dataset) -> pa.Table | None:
        tokens = _input(one, "tokenize")
        if tokens not in seen:
            seen[tokens] = _documents(storage, tokens, removals)
        return seen[tokens]

    for folder in storage.folders("train"):
        try:
            model = open_dataset(storage.at("train", folder))
        except (NotCommitted, BrokenPromise):
            continue
        mark = known.get(model.fingerprint)
        if mark is None or mark.removals != now:
            table = _seen_by(storage, model, documents, steps)
            mark = _mark(storage, recipe, f"train/{folder}", model, table, now, mark)
        marks.append(mark)
    return [mark for mark in marks if mark.documents != 0]


def marked(storage: Storage, recipe: str) -> list[Mark]:
    """The marks of a recipe as they were written last; models that saw nothing are left out."""
    return [mark for mark in _read_all(storage, recipe) if mark.documents != 0]


def bases(storage: Storage, model: Dataset) -> list[Dataset]:
    """The models whose weights a model started with, nearest first.

    Raises:
        NotCommitted: if one of them is gone.
    """
    found: list[Dataset] = []
    while True:
        youngest = found[-1] if found else model
        made = [item for item in youngest.manifest.inputs if item["stage"] == youngest.stage]
        if not made:
            return found
        found.append(open_dataset(storage.at(*input_path(made[0]).split("/"))))


def seen_document(storage: Storage, mark: Mark, document: str) -> list[int] | None:
    """The steps at which a marked model saw a document; ``None`` if it is not among those removed."""
    if mark.table is None:
        return None
    with storage.open(mark.table) as stream:
        rows = pq.read_table(
            stream, columns=["id", "steps"], filters=[("id", "=", document)]
        ).to_pylist()
    return sorted({step for row in rows for step in row["steps"]}) if rows else None


def seen_through(storage: Storage, mark: Mark, document: str) -> list[str]:
    """The models it started from through which a marked model saw a document."""
    if mark.table is None or not mark.through:
        return []
    with storage.open(mark.table) as stream:
        rows = pq.read_table(
            stream, columns=["id", "through"], filters=[("id", "=", document)]
        ).to_pylist()
    return list(dict.fromkeys(name for row in rows for name in row["through"]))


def _seen_by(
    storage: Storage,
    model: Dataset,
    documents: Callable[[Dataset], pa.Table | None],
    steps: Steps,
) -> pa.Table | None:
    """The removed documents that a model saw, itself or through those it started from: `SCHEMA`.

    ``None`` if a model or token shards on the way are gone.
    """
    try:
        older = bases(storage, model)
    except (NotCommitted, BrokenPromise):
        return None
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in (model, *older):
        table = documents(one)
        if table is None:
            return None
        tokens = _input(one, "tokenize")
        for row in table.to_pylist():
            first, end = row["first_token"], row["end_token"]
            at = steps(one, first, end)
            if not at:
                continue
            own = rows.setdefault((tokens, first), {**row, "steps": [], "through": []})
            if one is model:
                own["steps"] = at
            else:
                own["through"].append(one.source)
    return pa.Table.from_pylist(list(rows.values()), SCHEMA)


def _input(data: Dataset, stage: str) -> str:
    """The folder of a data set's input that this stage made."""
    return input_path(next(item for item in data.manifest.inputs if item["stage"] == stage))


def _open(storage: Storage, folder: str) -> Dataset | None:
    try:
        return open_dataset(storage.at(*folder.split("/")))
    except (NotCommitted, BrokenPromise):
        return None


def _documents(storage: Storage, folder: str, removals: Sequence[Removal]) -> pa.Table | None:
    """The removed documents in the training split of token shards: `FOUND`.

    ``None`` if the shards, or the corpus that knows licences, are gone.
    """
    tokens = _open(storage, folder)
    if tokens is None:
        return None
    by_id = removed_ids(storage, tokens, removals)
    if by_id is None:
        return None
    size = np.dtype(str(tokens.facts.get("dtype", "uint16"))).itemsize
    names = pa.array(list(by_id), pa.string())
    before = 0
    tables = [FOUND.empty_table()]
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
        tables.append(pa.table(columns, schema=FOUND))
        before += file.bytes // size
    return pa.concat_tables(tables)


def removed_ids(
    storage: Storage, tokens: Dataset, removals: Sequence[Removal]
) -> dict[str, Removal] | None:
    """What removes each document of the corpus that was made into tokens, by id.

    ``None`` if the corpus, which alone knows licences, is gone and a licence is removed.
    """
    found: dict[str, Removal] = {}
    corpus = _open(storage, _input(tokens, "select"))
    if corpus is None and any(gone.kind == "license" for gone in removals):
        return None  # token shards name ids and addresses, but no licences
    for part in (corpus or tokens).parts:
        if corpus is not None:
            ids, gone = part.table(["id"])["id"], removed_of(part, removals)
        else:
            table = part.table(["id", "url"])
            ids, gone = table["id"], removed(table, removals)
        rows = np.flatnonzero(gone >= 0)
        for name, place in zip(ids.take(rows).to_pylist(), gone[rows].tolist(), strict=True):
            found[name] = removals[place]
    return found


def _mark(
    storage: Storage,
    recipe: str,
    path: str,
    model: Dataset,
    table: pa.Table | None,
    removals: str,
    before: Mark | None,
) -> Mark:
    """Write down what a model saw."""
    name = f"{FOLDER}/{recipe}/{MODELS}/{model.fingerprint}"
    if table is None:
        if before is not None:
            return before
        mark = Mark(str(model.source), path, model.fingerprint, removals, None)
        storage.put(f"{name}.json", _bytes(mark))
        return mark
    every = pc.unique(pc.list_flatten(table["steps"]))
    by = Counter(zip(table["kind"].to_pylist(), table["value"].to_pylist(), strict=True))
    lengths = pc.subtract(table["end_token"], table["first_token"])
    mark = Mark(
        str(model.source),
        path,
        model.fingerprint,
        removals,
        table.num_rows,
        int(pc.sum(lengths).as_py() or 0),
        len(every),
        pc.min(every).as_py(),
        pc.max(every).as_py(),
        int(model.facts.get("steps", 0)),
        [
            {"kind": kind, "value": value, "documents": count}
            for (kind, value), count in sorted(by.items())
        ],
        f"{name}.parquet" if table.num_rows else None,
        [
            {"model": older, "documents": count}
            for older, count in Counter(pc.list_flatten(table["through"]).to_pylist()).items()
        ],
    )
    if mark.table:
        storage.put(mark.table, table_bytes(table))
    else:
        storage.remove(f"{name}.parquet")
    storage.put(f"{name}.json", _bytes(mark))
    return mark


def _bytes(mark: Mark) -> bytes:
    return json.dumps(mark.to_json(), indent=1, ensure_ascii=False).encode() + b"\n"


def _read_all(storage: Storage, recipe: str) -> list[Mark]:
    found = []
    for path in storage.list(f"{FOLDER}/{recipe}/{MODELS}"):
        if path.endswith(".json"):
            try:
                found.append(Mark(**json.loads(storage.read(path))))
            except (ValueError, TypeError):
                continue  # damaged: it is made again
    return found
