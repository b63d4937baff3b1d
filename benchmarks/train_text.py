"""Tiny Shakespeare by characters, for every trainer the same ids and the same split.

The text is ``data/tinyshakespeare/input.txt`` of the public repository karpathy/char-rnn; it is
fetched or given, and kept in the benchmarks' cache.
"""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.compute.cluster import Cluster, ClusterConfig
from infra.compute.progress import Silent
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import digest_bytes
from infra.dataset.ledger import verdicts
from infra.dataset.stage import Context, Outcome, Spec, Stage, Unit, build
from infra.formats.megatron import SPLITS, TRAIN, VALIDATION, ShardWriter, token_dtype
from infra.store.cache_dir import cache_root
from infra.store.storage import Storage

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SPLIT = 0.9  # of the characters train, as in nanoGPT
STAGE = Stage("tokenize", ("benchmarks.train_text",))

Ids = npt.NDArray[np.uint16]


class NoText(Exception):
    """The text is not to be had; the message says why."""


def root() -> Path:
    """Where these benchmarks keep what they fetch and make."""
    return cache_root() / "bench" / "train"


def shakespeare(given: Path | None = None) -> str:
    """The text, 1,115,394 characters. Raises ``NoText``."""
    kept = root() / "shakespeare.txt"
    if given is not None:
        data = given.read_bytes()
    elif kept.exists():
        data = kept.read_bytes()
    else:
        try:
            with urllib.request.urlopen(URL, timeout=60) as answer:
                data = answer.read()
        except OSError as error:
            raise NoText(f"{URL}: {error}; give the file by --text") from error
    if digest_bytes(data) != SHA256:
        raise NoText("the text is not that of karpathy/char-rnn: its SHA-256 differs")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return data.decode()


def encoded(text: str) -> tuple[list[str], dict[str, Ids]]:
    """``(characters in order, ids by split)``; an id is a character's place in the order."""
    characters = sorted(set(text))
    number = {character: place for place, character in enumerate(characters)}
    ids = np.array([number[character] for character in text], np.uint16)
    cut = int(len(text) * SPLIT)
    return characters, {TRAIN: ids[:cut], VALIDATION: ids[cut:]}


def drawn(vocabulary: int, count: int = 1 << 20) -> dict[str, Ids]:
    """Ids without any order in them, for runs whose speed alone counts."""
    ids = np.random.default_rng(0).integers(0, vocabulary, count, np.uint16)
    return {TRAIN: ids, VALIDATION: ids[: count // 16]}


def shards(ids: dict[str, Ids], vocabulary: int, folder: Path) -> Dataset:
    """The ids as a data set of token shards: one document per split."""

    def part(_: int) -> Iterator[Outcome]:
        files: dict[str, bytes] = {}
        for split in SPLITS:
            writer = ShardWriter(token_dtype(vocabulary))
            writer.add(ids[split])
            files |= {f"{split}.bin": writer.bin(), f"{split}.idx": writer.idx()}
        row = {"url": None, "source": "shakespeare", "language": "en", "sequence": 0, "offset": 0}
        rows = [row | {"id": s, "split": s, "tokens": len(ids[s])} for s in SPLITS]
        yield Outcome(pa.Table.from_pylist(rows), verdicts("tokenize", list(SPLITS)), files)

    def facts(_: list[Any]) -> dict[str, Any]:
        tokens = {split: len(ids[split]) for split in SPLITS}
        return {
            "vocab_size": vocabulary,
            "eos_id": 0,
            "tokens": tokens,
            "documents": dict.fromkeys(SPLITS, 1),
        }

    here = Cluster(ClusterConfig.model_validate({"workers": 0}))
    ctx = Context(Storage(str(folder)), 1337, here, Silent())
    spec = Spec(STAGE, None, {"text": "shakespeare"})
    return build(ctx, spec, [Unit("shakespeare", (0,))], part, facts=facts)
