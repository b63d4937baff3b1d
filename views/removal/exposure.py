"""Which models were trained or validated on documents that were removed since, in which steps.

A committed data set is never written to, so a model's exposure record is stored beside the removals:
``removals/{recipe}/models/{fingerprint}.json``, and a table of the documents as ``.parquet``.
Records follow from the removals, the token shards and the order of the training data; they are
computed again when the removals change. If a model's token shards were deleted, its last record is
kept.

A model that was initialized from another one was also trained on what that one was trained on. A fine-tuned
model was also trained on examples of a task, each in every epoch; these have no tokens and no steps.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import Dataset, open_dataset, try_open_dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.manifest import DatasetNotFoundError, IntegrityError, input_path
from infra.dataset.step import Output, Steps, steps_with_output
from infra.dataset.tables import table_bytes
from infra.formats.megatron import TRAIN, VALIDATION, iter_split_parts
from infra.removals.log import REMOVALS_FOLDER
from infra.removals.match import LICENSE, Removal, fingerprint_input, match_ids
from infra.store.storage import Storage
from lm.data.sampler import steps_containing
from views.removal.examples import find_input, find_trained_examples

MODELS = "models"
FORMAT_VERSION = 3  # of the records: those of another version are computed again
UNKNOWN_REASON = (
    "its token shards or examples, or a model it was initialized from, are not in the store"
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("kind", pa.string()),
        ("value", pa.string()),
        ("split", pa.string()),
        ("first_token", pa.int64()),
        ("end_token", pa.int64()),
        ("steps", pa.list_(pa.int64())),
        ("via_models", pa.list_(pa.string())),
    ]
)
TOKEN_RANGE_SCHEMA = pa.schema([SCHEMA.field(index) for index in range(7)])  # in token shards
_NO_RANGES = TOKEN_RANGE_SCHEMA.append(pa.field("tokens", pa.string())).empty_table()


@dataclass(frozen=True)
class ExposureRecord:
    """How much of the removed documents a model was trained on.

    Attributes:
        model: its name in the recipe that trained it.
        path: its data set, relative to the storage root.
        removals_digest: digest of the removals that the record was computed for.
        documents: number of removed documents and examples that it, or a model it was initialized from,
            was trained on; ``None`` if that is unknown.
        examples: how many of these are examples of a task, which it was fine-tuned on.
        tokens: their tokens in the training split, each counted once.
        steps: number of its own training steps whose batches held any of them.
        first_step: the first of these steps, 0-based; ``None`` if there is none.
        last_step: the last of these steps.
        total_steps: steps of the whole training.
        by_removal: documents per removal: kind, value, documents.
        table: the Parquet file of the documents with their steps (`SCHEMA`), below the storage root.
        via_models: documents per model that it was initialized from, nearest first.
        validation_documents: number of removed documents in the validation split, which it was
            validated and evaluated on, but not trained.
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
    validation_documents: int = 0
    examples: int = 0

    @property
    def is_exposed(self) -> bool:
        """Whether it was trained or validated on removed documents, or that is unknown."""
        return self.documents != 0 or self.validation_documents > 0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        lists = {"by_removal": self.by_removal, "via_models": self.via_models}
        return {**asdict(self), **{key: [*map(dict, value)] for key, value in lists.items()}}

    def __str__(self) -> str:
        name = f"model {self.model} ({self.path})"
        if self.documents is None:
            return f"{name}: unknown whether it was trained on removed documents: {UNKNOWN_REASON}"
        validated = f"validated on {_format_documents(self.validation_documents)}"
        if not self.documents:
            return f"{name} was {validated}, and trained on none"
        parts = []
        if self.steps or not self.examples:
            parts = [f"in {self.steps:,} of its {self.total_steps:,} steps"]
        if self.steps:
            parts[0] += f", {self.first_step} to {self.last_step}"
        if self.examples:
            parts.append(f"{self.examples:,} of them examples, in every epoch")
        parts += [f"{item['documents']:,} via {item['model']}" for item in self.via_models]
        return (
            f"{name} was trained on {_format_documents(self.documents)}, {self.tokens:,} tokens, "
            f"{', '.join(parts)}" + (f"; {validated}" if self.validation_documents else "")
        )


def _format_documents(count: int) -> str:
    return f"{count:,} removed document{'' if count == 1 else 's'}"


def update_exposure(
    storage: Storage, recipe: str, removals: Sequence[Removal], steps: Steps
) -> list[ExposureRecord]:
    """Find the models of a store, of any recipe, that were trained on what a recipe removes.

    A record that was computed for the same removals is not computed again.

    Returns:
        The records of the models that were trained or validated on removed documents, or for which
        that is unknown.
    """
    known = {record.fingerprint: record for record in _read_records(storage, recipe)}
    if not removals and not known:
        return []
    digest = json_sha256([FORMAT_VERSION, *fingerprint_input(removals)])
    token_ranges: dict[str, pa.Table | None] = {}

    def removed_in(model: Dataset) -> pa.Table | None:
        path = find_input(model, steps, "tokens")
        if path is None:  # a fine-tuned model reads examples of a task; its base has read documents
            rows = find_trained_examples(storage, model, removals, steps)
            return None if rows is None else pa.Table.from_pylist(rows, _NO_RANGES.schema)
        if path not in token_ranges:
            token_ranges[path] = _find_token_ranges(storage, path, removals, steps)
        return token_ranges[path]

    records = []
    for stage in steps_with_output(steps, "model"):
        for folder in storage.list_folders(stage):
            path = f"{stage}/{folder}"
            model = try_open_dataset(storage, path)
            if model is None:
                continue
            record = known.get(model.fingerprint)
            if record is None or record.removals_digest != digest:
                table = _find_exposed_documents(storage, model, removed_in, steps)
                record = _write_record(storage, recipe, path, model, table, digest, record)
            records.append(record)
    return [record for record in records if record.is_exposed]


def load_exposure(storage: Storage, recipe: str) -> list[ExposureRecord]:
    """Return a recipe's exposure records; models without removed documents are left out."""
    return [record for record in _read_records(storage, recipe) if record.is_exposed]


def parent_models(storage: Storage, model: Dataset, steps: Steps) -> list[Dataset]:
    """Return the models that a model was initialized from, or fine-tuned from, nearest first.

    Raises:
        DatasetNotFoundError: if one of them was deleted.
    """
    makers, parents = steps_with_output(steps, "model"), list[Dataset]()
    while True:
        child = parents[-1] if parents else model
        bases = [item for item in child.manifest.inputs if item["stage"] in makers]
        if not bases:
            return parents
        parents.append(open_dataset(storage.subdir(*input_path(bases[0]).split("/"))))


def load_exposed_steps(
    storage: Storage, record: ExposureRecord, document: str
) -> tuple[list[int], list[str], list[str]] | None:
    """Return a model's steps with a removed document, the parents trained on it, and its splits.

    Returns:
        ``None`` if the model was neither trained nor validated on the document.
    """
    if record.table is None:
        return None
    with storage.open(record.table) as stream:
        rows = pq.read_table(stream, filters=[("id", "=", document)]).to_pylist()
    if not rows:
        return None
    steps = {step for row in rows for step in row["steps"]}
    parents = dict.fromkeys(n for row in rows if row["split"] == TRAIN for n in row["via_models"])
    return sorted(steps), list(parents), sorted({row["split"] for row in rows})


def exposed_steps(model: Dataset, first: int, end: int) -> list[int]:
    """Return the 0-based steps of a model with any of the split's tokens ``[first, end)``.

    A model without steps saw all tokens, which is step 0.

    Raises:
        DatasetNotFoundError: if its token shards were deleted.
    """
    return steps_containing(model, first, end) if "global_batch_size" in model.stats else [0]


def _find_exposed_documents(
    storage: Storage,
    model: Dataset,
    removed_in: Callable[[Dataset], pa.Table | None],
    steps: Steps,
) -> pa.Table | None:
    """Find what a model or one of its parents was trained or validated on: `SCHEMA`.

    Returns:
        ``None`` if one of the models or token shards was deleted.
    """
    try:
        parents = parent_models(storage, model, steps)
    except (DatasetNotFoundError, IntegrityError):
        return None
    rows: dict[tuple[str, str, int | str], dict[str, Any]] = {}
    for trained in (model, *parents):
        removed = removed_in(trained)
        if removed is None:
            return None
        for row in removed.to_pylist():
            exposed: list[int] = []
            is_document = row["first_token"] is not None  # an example is read in every epoch
            if row["split"] == TRAIN and is_document:
                exposed = exposed_steps(trained, row["first_token"], row["end_token"])
                if not exposed:
                    continue
            # The same document in the same shards counts once for a model and its parents.
            key = (
                str(row["tokens"]),
                row["split"],
                row["first_token"] if is_document else row["id"],
            )
            merged = rows.setdefault(key, {**row, "steps": [], "via_models": []})
            if trained is model:
                merged["steps"] = exposed
            else:
                merged["via_models"].append(trained.source)
    return pa.Table.from_pylist(list(rows.values()), SCHEMA)


def _input_with_output(data: Dataset, steps: Steps, output: Output) -> str:
    """Return the folder of a data set's input with this kind of output."""
    path = find_input(data, steps, output)
    assert path is not None
    return path


def _find_token_ranges(
    storage: Storage, path: str, removals: Sequence[Removal], steps: Steps
) -> pa.Table | None:
    """Find the removed documents in both splits of token shards.

    Returns:
        `TOKEN_RANGE_SCHEMA` and ``tokens``, the path of the shards; ``None`` if they were deleted,
        or the corpus was and a license is removed.
    """
    tokens = try_open_dataset(storage, path)
    removed = None if tokens is None else removed_documents(storage, tokens, removals, steps)
    if tokens is None or removed is None:
        return None
    ids = pa.array(list(removed), pa.string())
    tables = [TOKEN_RANGE_SCHEMA.empty_table()]
    for split in (TRAIN, VALIDATION):
        for part, before in iter_split_parts(tokens, split):
            table = part.table(["id", "url", "split", "tokens", "offset"])
            hit = pc.and_(pc.equal(table["split"], split), pc.is_in(table["id"], value_set=ids))
            table = table.filter(hit)
            matches = [removed[document] for document in table["id"].to_pylist()]
            first = pc.add(table["offset"], before)
            columns = {
                "id": table["id"],
                "url": table["url"],
                "kind": [removal.kind for removal in matches],
                "value": [removal.value for removal in matches],
                "split": table["split"],
                "first_token": first,
                "end_token": pc.add(first, table["tokens"]),
            }
            tables.append(pa.table(columns, schema=TOKEN_RANGE_SCHEMA))
    result = pa.concat_tables(tables)
    return result.append_column("tokens", pa.array([path] * result.num_rows, pa.string()))


def removed_documents(
    storage: Storage, data: Dataset, removals: Sequence[Removal], steps: Steps
) -> dict[str, Removal] | None:
    """Return the removal of each removed document of token shards or of scores, by document id.

    Returns:
        ``None`` if a license is removed and the corpus, which alone holds licenses, was deleted.
    """
    corpus = _find_corpus(storage, data, steps)
    if corpus is None and any(removal.kind == LICENSE for removal in removals):
        return None
    removed: dict[str, Removal] = {}
    for part in (corpus or data).parts:
        removed.update(match_ids(part, removals))
    return removed


def _find_corpus(storage: Storage, data: Dataset, steps: Steps) -> Dataset | None:
    """Return the corpus that token shards or scores were made from; ``None`` if it was deleted."""
    while data.stage not in steps_with_output(steps, "corpus"):
        from_tokens = steps_with_output(steps, "index", "scores")
        output: Output = "tokens" if data.stage in from_tokens else "corpus"
        opened = try_open_dataset(storage, _input_with_output(data, steps, output))
        if opened is None:
            return None
        data = opened
    return data


def _write_record(
    storage: Storage,
    recipe: str,
    path: str,
    model: Dataset,
    table: pa.Table | None,
    removals_digest: str,
    previous: ExposureRecord | None,
) -> ExposureRecord:
    """Write a model's record and table; if its documents are unknown, keep a previous record."""
    name = f"{REMOVALS_FOLDER}/{recipe}/{MODELS}/{model.fingerprint}"
    if table is None:
        if previous is not None:
            return previous
        record = ExposureRecord(str(model.source), path, model.fingerprint, removals_digest, None)
        storage.write(f"{name}.json", _to_bytes(record))
        return record
    trained = table.filter(pc.equal(table["split"], TRAIN))
    exposed = pc.unique(pc.list_flatten(trained["steps"]))
    by_removal = Counter(
        zip(trained["kind"].to_pylist(), trained["value"].to_pylist(), strict=True)
    )
    via_models = Counter(pc.list_flatten(trained["via_models"]).to_pylist())
    lengths = pc.subtract(trained["end_token"], trained["first_token"])
    record = ExposureRecord(
        model=str(model.source),
        path=path,
        fingerprint=model.fingerprint,
        removals_digest=removals_digest,
        documents=trained.num_rows,
        tokens=int(pc.sum(lengths).as_py() or 0),
        steps=len(exposed),
        first_step=pc.min(exposed).as_py(),
        last_step=pc.max(exposed).as_py(),
        total_steps=int(model.stats.get("steps", 0)),
        by_removal=[
            {"kind": kind, "value": value, "documents": count}
            for (kind, value), count in sorted(by_removal.items())
        ],
        table=f"{name}.parquet" if table.num_rows else None,
        via_models=[{"model": name, "documents": count} for name, count in via_models.items()],
        validation_documents=table.num_rows - trained.num_rows,
        examples=trained["first_token"].null_count,
    )
    if record.table:
        storage.write(record.table, table_bytes(table))
    else:
        storage.remove(f"{name}.parquet")
    storage.write(f"{name}.json", _to_bytes(record))
    return record


def _to_bytes(record: ExposureRecord) -> bytes:
    return json.dumps(record.to_json(), indent=1, ensure_ascii=False).encode() + b"\n"


def _read_records(storage: Storage, recipe: str) -> list[ExposureRecord]:
    records = []
    for path in storage.list_files(f"{REMOVALS_FOLDER}/{recipe}/{MODELS}"):
        if path.endswith(".json"):
            try:
                records.append(ExposureRecord(**json.loads(storage.read(path))))
            except (ValueError, TypeError):
                continue  # damaged: it is computed again
    return records
