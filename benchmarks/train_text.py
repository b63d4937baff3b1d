"""Tiny Shakespeare by characters, for every trainer the same ids and the same split.

The text is ``data/tinyshakespeare/input.txt`` of the public repository karpathy/char-rnn; it is
fetched or given, and cached in the benchmarks' cache.
"""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import bytes_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.megatron import SPLITS, TRAIN, VALIDATION, token_dtype
from infra.store.cache_dir import cache_root
from infra.store.storage import Storage
from tests.shard_writer import TokenShardWriter

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SPLIT = 0.9  # of the characters train, as in nanoGPT
STAGE = Stage("tokenize", ())

Ids = npt.NDArray[np.uint16]


class TextUnavailableError(Exception):
    """The text cannot be fetched; the message says why."""


def bench_root() -> Path:
    """Return the folder of what these benchmarks fetch and make."""
    return cache_root() / "bench" / "train"


def shakespeare(path: Path | None = None) -> str:
    """Return the text, 1,115,394 characters. Raises ``TextUnavailableError``."""
    cached = bench_root() / "shakespeare.txt"
    if path is not None:
        data = path.read_bytes()
    elif cached.exists():
        data = cached.read_bytes()
    else:
        try:
            with urllib.request.urlopen(URL, timeout=60) as answer:
                data = answer.read()
        except OSError as error:
            raise TextUnavailableError(f"{URL}: {error}; give the file by --text") from error
    if bytes_sha256(data) != SHA256:
        raise TextUnavailableError("the text is not that of karpathy/char-rnn: its SHA-256 differs")
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(data)
    return data.decode()


def encode_text(text: str) -> tuple[list[str], dict[str, Ids]]:
    """``(characters in order, ids by split)``; an id is a character's index in the order."""
    characters = sorted(set(text))
    number = {character: index for index, character in enumerate(characters)}
    ids = np.array([number[character] for character in text], np.uint16)
    cut = int(len(text) * SPLIT)
    return characters, {TRAIN: ids[:cut], VALIDATION: ids[cut:]}


def draw_ids(vocabulary: int, count: int = 1 << 20) -> dict[str, Ids]:
    """Return random ids, for runs of which only the speed matters."""
    ids = np.random.default_rng(0).integers(0, vocabulary, count, np.uint16)
    return {TRAIN: ids, VALIDATION: ids[: count // 16]}


def shards(ids: dict[str, Ids], vocabulary: int, folder: Path) -> Dataset:
    """The ids as a data set of token shards: one document per split."""

    def part(_: int) -> Iterator[PartResult]:
        files: dict[str, bytes] = {}
        for split in SPLITS:
            writer = TokenShardWriter(token_dtype(vocabulary))
            writer.add(ids[split])
            files |= {f"{split}.bin": writer.bin_bytes(), f"{split}.idx": writer.idx_bytes()}
        row = {"url": None, "source": "shakespeare", "language": "en", "sequence": 0, "offset": 0}
        rows = [row | {"id": s, "split": s, "tokens": len(ids[s])} for s in SPLITS]
        yield PartResult(pa.Table.from_pylist(rows), ledger_table("tokenize", list(SPLITS)), files)

    def facts(_: list[Any]) -> dict[str, Any]:
        tokens = {split: len(ids[split]) for split in SPLITS}
        return {
            "vocab_size": vocabulary,
            "eos_id": 0,
            "tokens": tokens,
            "documents": dict.fromkeys(SPLITS, 1),
        }

    here = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    ctx = Context(Storage(str(folder)), 1337, here, NullReporter())
    spec = DatasetSpec(STAGE, None, {"text": "shakespeare"})
    return build_dataset(ctx, spec, [WorkUnit("shakespeare", (0,))], part, stats=facts)
