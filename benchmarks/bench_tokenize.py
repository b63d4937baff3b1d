"""Tokenizing: the whole stage (Parquet in, `.bin/.idx` out) beside `tokenizers` alone.

Both run on one core over the same documents with the same vocabulary, in turns: the library's
``encode_batch`` on texts that already lie in memory, its ids left where they are; ours from
committed Parquet parts to committed, checksummed shards with their table. Printed are medians and
the ratio ours / theirs in tokens per second (1.0: the stage adds nothing to the library's time).

Text: Python sources of the installed packages, the one corpus that is everywhere.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pyarrow as pa
from tokenizers import Encoding, Tokenizer

from infra.cluster import Cluster, ClusterConfig
from infra.dataset import Dataset
from infra.ledger import verdicts
from infra.progress import Silent
from infra.stage import Context, Outcome, Spec, Stage, Unit, build
from infra.storage import Storage
from tasks.tokenize.bpe import train
from tasks.tokenize.config import TokenizeConfig
from tasks.tokenize.task import tokenize

SELECT = Stage("select", ())
PART = 200  # documents


def texts(megabytes: float) -> list[str]:
    """Sources of installed packages, sorted by path, up to so many megabytes."""
    found: list[str] = []
    left = megabytes * 1e6
    folders = sorted({Path(path) for path in sys.path if path.endswith("site-packages")})
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        text = path.read_text(encoding="utf-8", errors="ignore")
        if left <= 0:
            break
        if text:
            found.append(text)
            left -= len(text.encode())
    return found


def keep(table: pa.Table) -> list[Outcome]:
    """A part of the corpus as it is."""
    return [Outcome(table, verdicts("select", table["id"].to_pylist()))]


def corpus(ctx: Context, documents: list[str]) -> Dataset:
    """The documents as a committed corpus."""
    units = []
    for at in range(0, len(documents), PART):
        some = documents[at : at + PART]
        table = pa.table(
            {
                "id": [f"{at + row:032d}" for row in range(len(some))],
                "url": [f"https://example.org/{at + row}" for row in range(len(some))],
                "source": ["sources"] * len(some),
                "language": ["en"] * len(some),
                "text": pa.array(some, pa.large_string()),
                "cluster": pa.nulls(len(some), pa.string()),
            }
        )
        units.append(Unit(str(at), (table,), len(some)))
    return build(ctx, Spec(SELECT, None, {}), units, keep)


def timed(work: Callable[[], int]) -> tuple[float, float]:
    """Tokens per second, and per second of processor time, of work that returns its tokens."""
    began, used = time.perf_counter(), time.process_time()
    tokens = work()
    return tokens / (time.perf_counter() - began), tokens / (time.process_time() - used)


def encoded(encode: Callable[..., list[Encoding]], documents: list[str]) -> int:
    """Encode all documents in one call; their tokens."""
    return sum(map(len, encode(documents, add_special_tokens=False)))


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=16)
    parser.add_argument("--repeats", type=int, default=6)
    options = parser.parse_args()
    documents = texts(options.megabytes)
    vocabulary = train(documents, vocab_size=8192, specials=["<|endoftext|>"])
    cluster = Cluster(ClusterConfig.model_validate({"workers": 0}))
    rates: dict[str, list[tuple[float, float]]] = {
        "encode_batch": [],
        "encode_batch_fast": [],
        "stage": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "tokenizer.json"
        given.write_bytes(vocabulary)
        config = TokenizeConfig(tokenizer=str(given))
        for repeat in range(options.repeats):
            ctx = Context(Storage(f"{folder}/{repeat}"), 1, cluster, Silent())
            parts = corpus(ctx, documents)

            def stage(ctx: Context = ctx, parts: Dataset = parts) -> int:
                spec = tokenize.spec(ctx, config=config, corpus=parts)
                done = tokenize.build(ctx, spec, config=config, corpus=parts)
                return sum(done.facts["tokens"].values())

            # A fresh tokenizer each time: its cache of words starts empty for all.
            plain, fast = (Tokenizer.from_buffer(vocabulary) for _ in range(2))
            work: list[tuple[str, Callable[[], int]]] = [
                ("encode_batch", partial(encoded, plain.encode_batch, documents)),
                ("stage", stage),
                ("encode_batch_fast", partial(encoded, fast.encode_batch_fast, documents)),
            ]
            turn = repeat % len(work)  # each goes first, second and last in turn
            for name, piece in work[turn:] + work[:turn]:
                rates[name].append(timed(piece))
    size = sum(len(text.encode()) for text in documents) / 1e6
    print(f"{len(documents)} documents, {size:.1f} MB, one core, {options.repeats} turns")
    for name, values in rates.items():
        walls = [wall / 1e6 for wall, _ in values]
        spread = f"{min(walls):.3f} to {max(walls):.3f}"
        print(f"{name:18} {statistics.median(walls):.3f} Mtokens/s ({spread})")
    for name in ("encode_batch", "encode_batch_fast"):
        wall, used = (
            statistics.median(
                ours[clock] / their[clock]
                for ours, their in zip(rates["stage"], rates[name], strict=True)
            )
            for clock in (0, 1)
        )
        print(f"stage / {name}: {wall:.2f} (by processor time {used:.2f})")


if __name__ == "__main__":
    main()
