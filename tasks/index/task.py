"""The stage `index`: sort the suffixes of the training tokens, group by group."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.megatron import TRAIN, TokenShards
from infra.suffix_array.build import build_suffix_array
from infra.suffix_array.source_index import DTYPE_KEY, ROWS, SUFFIXES_FILE, TOKENS_FILE
from tasks.index.config import IndexConfig

STAGE = Stage("index", modules=("tasks.index.task",), libraries=("numpy", "pyarrow"))
TOKENIZER_FILE = "tokenizer.json"


def spec(ctx: Context, *, config: IndexConfig, tokens: Dataset) -> DatasetSpec:  # noqa: ARG001
    """Describe the index of these token shards."""
    return DatasetSpec(STAGE, None, config.to_json(), (tokens,))


def build(ctx: Context, spec: DatasetSpec, *, config: IndexConfig, tokens: Dataset) -> Dataset:
    """Build the suffix arrays.

    Returns:
        A data set with a part per group of parts of the token shards: a row per training document, in
        the order of their tokens, ``tokens.bin`` (the group's tokens, one document after the other) and
        ``suffixes.bin`` (int32, little endian: the positions of their suffixes in lexicographic order).
        It holds ``tokenizer.json``, too, so that nothing else is needed to look up a text.
    """
    shards = TokenShards(tokens, TRAIN)  # checks that no shard is missing
    units = [
        WorkUnit(json_sha256([part.content for part in group]), (group, shards.dtype.name))
        for group in group_parts(tokens.parts, config.group_tokens, shards.dtype.itemsize)
    ]
    return build_dataset(
        ctx,
        spec,
        units,
        index_group,
        files={TOKENIZER_FILE: tokens.read(TOKENIZER_FILE)},
        stats=lambda parts: {
            "indexed_tokens": len(shards),
            "groups": len(parts),
            DTYPE_KEY: shards.dtype.name,
        },
    )


def group_parts(
    parts: Sequence[PartRef], group_tokens: int, token_bytes: int
) -> Iterator[tuple[PartRef, ...]]:
    """Yield groups of consecutive parts with at least so many training tokens.

    Where a part is appended, only the last group is another one. Parts without training documents are
    left out. Sizes are those of the manifest: no part is read.
    """
    group: list[PartRef] = []
    tokens = 0
    for part in parts:
        file = part.record.files.get(f"{TRAIN}.bin")
        if file is None:
            continue
        group.append(part)
        tokens += file.bytes // token_bytes
        if tokens >= group_tokens:
            yield tuple(group)
            group, tokens = [], 0
    if group:
        yield tuple(group)


def index_group(parts: Sequence[PartRef], dtype: str) -> Iterator[PartResult]:
    """Sort the suffixes of the training tokens of some parts of a data set of token shards."""
    shards, tables = [], []
    for part in parts:
        with part.open(f"{TRAIN}.bin") as file:
            shards.append(np.frombuffer(file.read(), dtype))
        table = part.table([*ROWS.names, "split"])
        tables.append(table.filter(pc.equal(table["split"], TRAIN)).select(ROWS.names))
    tokens, rows = np.concatenate(shards), pa.concat_tables(tables).cast(ROWS)
    files = {
        TOKENS_FILE: tokens.tobytes(),
        SUFFIXES_FILE: build_suffix_array(tokens).astype("<i4", copy=False).tobytes(),
    }
    yield PartResult(rows, ledger_table(STAGE.name, rows["id"].to_pylist()), files)
