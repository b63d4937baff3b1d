"""Token shards for the tests of training: a small language with some structure."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter, Reporter
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.megatron import SPLITS, TokenShards, token_dtype
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from tests.shard_writer import TokenShardWriter
from tests.train_entry import train_config

STAGE = Stage("tokenize", ("tests.lm.corpora",))
EOS = "<|endoftext|>"
WHO = ("The miller", "A crow", "Das Kind", "Le vieux roi", "Nobody")
DID = ("ground", "counted", "vergaß", "a perdu", "never saw")
WHAT = ("the corn", "seven stones", "seinen Namen", "ses clefs", "the sea")


def texts(count: int) -> list[str]:
    """Return documents of a few sentences each, some of them similar."""
    draws = np.random.default_rng(7).integers(0, 5, (count, 6, 3))
    return [" ".join(f"{WHO[a]} {DID[b]} {WHAT[c]}." for a, b, c in document) for document in draws]


@cache
def tokenizer() -> Tokenizer:
    """A byte-level BPE of 300 tokens."""
    return train_tokenizer(texts(50))


def train_tokenizer(documents: list[str]) -> Tokenizer:
    """Train a byte-level BPE of up to 300 tokens."""
    result = Tokenizer(models.BPE())
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
    )
    result.train_from_iterator(documents, trainer)
    return result


def context(root: Path | str, reporter: Reporter | None = None) -> Context:
    """Return the context of a run in this process."""
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    return Context(Storage(str(root)), 1337, cluster, reporter or NullReporter())


def one_part(first: int, documents: list[str]) -> Iterator[PartResult]:
    """Make a part of token shards; every seventh document is held out."""
    writers = {split: TokenShardWriter(token_dtype(300)) for split in SPLITS}
    rows = []
    for number, text in enumerate(documents, first):
        ids = np.array([*tokenizer().encode(text).ids, 0])
        split = "validation" if number % 7 == 3 else "train"
        sequence, offset = writers[split].add(ids)
        row = {"id": f"d{number}", "url": f"https://example.org/{number}"}
        row |= {"source": "books" if number % 5 < 2 else "site"}
        row |= {"language": "en", "license": "CC0-1.0", "split": split}
        rows.append(
            row
            | {
                "sequence": sequence,
                "tokens": len(ids),
                "offset": offset,
                "bytes": len(text.encode()),
            }
        )
    files: dict[str, bytes] = {}
    for split, writer in writers.items():
        if not len(writer):
            continue
        files |= {f"{split}.bin": writer.bin_bytes(), f"{split}.idx": writer.idx_bytes()}
    table = pa.Table.from_pylist(rows)
    yield PartResult(table, ledger_table("tokenize", table["id"].to_pylist()), files)


def token_shards(
    root: Path | str, count: int = 140, documents: list[str] | None = None, **stats: Any
) -> Dataset:
    """Commit a data set of token shards in two parts, with two alternating sources; ``stats`` are added to its own."""
    documents = texts(count) if documents is None else documents
    half = len(documents) // 2
    units = [
        WorkUnit(str(first), (first, documents[first:end]))
        for first, end in ((0, half), (half, None))
    ]

    def facts(parts: list[Any]) -> dict[str, Any]:
        table = pa.concat_tables([part.table() for part in parts])
        splits, tokens = table["split"].to_pylist(), table["tokens"].to_pylist()
        sums = {s: sum(n for n, t in zip(tokens, splits, strict=True) if t == s) for s in SPLITS}
        counts = {s: splits.count(s) for s in SPLITS}
        return {"vocab_size": 300, "eos_id": 0, "tokens": sums, "documents": counts, **stats}

    files = {"tokenizer.json": tokenizer().to_str().encode()}
    spec = DatasetSpec(STAGE, None, {"documents": json_sha256(documents)})
    return build_dataset(context(root), spec, units, one_part, files=files, stats=facts)


def splits(tokens: Dataset) -> tuple[TokenShards, TokenShards]:
    """The training and the validation split."""
    training, held_out = (TokenShards(tokens, split) for split in SPLITS)
    return training, held_out


TINY: dict[str, Any] = {
    "name": "tiny",
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 4,
    "num_kv_heads": 2,
    "context_length": 16,
    "global_batch_size": 8,
    "train_tokens": 10 * 8 * 16,
    "num_processes": 1,
    "precision": "fp32",
    "device": "cpu",
    "log_interval": 1,
    "checkpoint_interval": 5,
}


def tiny(**changes: Any) -> TrainConfig:
    """A model that trains in a second."""
    return train_config(**TINY | changes)
