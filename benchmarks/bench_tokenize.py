"""Benchmark the tokenize stage (Parquet in, `.bin/.idx` out) against `tokenizers` alone.

Both encode the same documents with the same vocabulary, in alternation, on one core and then on all.
The library runs ``encode_batch`` on texts in memory and keeps the ids in memory; the stage goes from
committed Parquet parts to committed, checksummed shards with their table, in this process or on as
many Dask workers as there are cores. Every repetition starts with an empty word cache. Prints medians
and the ratio ours / theirs in tokens per second. Then compares the training of a vocabulary with the
library's, from texts to ``tokenizer.json``, whose bytes must be equal.

Text: Python sources of the installed packages, which every machine has.
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
os.environ["RAYON_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))

import pyarrow as pa
from tokenizers import Encoding, Tokenizer, pre_tokenizers, trainers

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.dataset.tables import table_bytes
from infra.schemas.text_digests import DIGESTS_SUFFIX, digest_texts
from infra.store.storage import Storage
from tasks.tokenize import task as tokenize
from tasks.tokenize.bpe import MIN_FREQUENCY, train_bpe_from_texts
from tasks.tokenize.config import TokenizeConfig
from tasks.tokenize.pretokenizer import PretokenizerRule, empty_bpe

CORES = len(os.sched_getaffinity(0))
SELECT = Stage("select", ())
TARGET_SPEEDUP = 0.9  # relative to encode_batch on the same cores
PART = 100  # documents
VOCABULARY, EOS = 8192, "<|endoftext|>"


def texts(megabytes: float) -> list[str]:
    """Return sources of installed packages, sorted by path, up to this many megabytes."""
    sources: list[str] = []
    left = megabytes * 1e6
    folders = sorted({Path(path) for path in sys.path if path.endswith("site-packages")})
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        text = path.read_text(encoding="utf-8", errors="ignore")
        if left <= 0:
            break
        if text:
            sources.append(text)
            left -= len(text.encode())
    return sources


def keep_all(table: pa.Table) -> list[PartResult]:
    """Commit a part unchanged, with the digests of its texts beside it as `select` writes them."""
    digests = table_bytes(digest_texts(table["text"]))
    ledger = ledger_table("select", table["id"].to_pylist())
    return [PartResult(table, ledger, {DIGESTS_SUFFIX: digests})]


def corpus(ctx: Context, documents: list[str]) -> Dataset:
    """Commit the documents as a corpus."""
    units = []
    for at in range(0, len(documents), PART):
        some = documents[at : at + PART]
        table = pa.table(
            {
                "id": [f"{at + row:032d}" for row in range(len(some))],
                "url": [f"https://example.org/{at + row}" for row in range(len(some))],
                "source": ["sources"] * len(some),
                "language": ["en"] * len(some),
                "license": [None] * len(some),
                "text": pa.array(some, pa.large_string()),
                "cluster": pa.nulls(len(some), pa.string()),
            }
        )
        units.append(WorkUnit(str(at), (table,), len(some)))
    return build_dataset(ctx, DatasetSpec(SELECT, None, {}), units, keep_all)


def encode_all(encode: Callable[..., list[Encoding]], documents: list[str], threads: str) -> int:
    """Encode all documents in one call; return the number of tokens."""
    os.environ["TOKENIZERS_PARALLELISM"] = threads
    tokens = sum(map(len, encode(documents, add_special_tokens=False)))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return tokens


def stage(ctx: Context, config: TokenizeConfig, parts: Dataset) -> int:
    """Run the stage; return its tokens without end-of-text tokens, which the library does not add."""
    spec = tokenize.spec(ctx, config=config, corpus=parts)
    done = tokenize.build(ctx, spec, config=config, corpus=parts)
    return int(sum(done.stats["tokens"].values()) - sum(done.stats["documents"].values()))


def compare(documents: list[str], vocabulary: bytes, workers: int, repeats: int) -> bool:
    """Compare the stage with the library on this many workers (0: one core, this process).

    Prints the result and returns whether the target is met.
    """
    rates: dict[str, list[float]] = {"stage": [], "encode_batch": [], "encode_batch_fast": []}
    threads = "true" if workers else "false"
    counts = set()
    with (
        tempfile.TemporaryDirectory() as folder,
        DaskCluster(ClusterConfig.model_validate({"workers": workers})) as cluster,
    ):
        given = Path(folder) / "tokenizer.json"
        given.write_bytes(vocabulary)
        config = TokenizeConfig(tokenizer=str(given))
        warm = Context(Storage(f"{folder}/warm"), 1, cluster, NullReporter())
        stage(warm, config, corpus(warm, documents[: 8 * PART]))  # starts workers, compiles kernels
        for repeat in range(repeats):
            ctx = Context(Storage(f"{folder}/{repeat}"), 1, cluster, NullReporter())
            parts = corpus(ctx, documents)
            # A new tokenizer in each repetition, so that its word cache is empty.
            plain, fast = (Tokenizer.from_buffer(vocabulary) for _ in range(2))
            work: list[tuple[str, Callable[[], int]]] = [
                ("stage", partial(stage, ctx, config, parts)),
                ("encode_batch", partial(encode_all, plain.encode_batch, documents, threads)),
                (
                    "encode_batch_fast",
                    partial(encode_all, fast.encode_batch_fast, documents, threads),
                ),
            ]
            turn = repeat % len(work)  # each runs first, second and last in turn
            for name, piece in work[turn:] + work[:turn]:
                start = time.perf_counter()
                tokens = piece()
                rates[name].append(tokens / (time.perf_counter() - start))
                counts.add(tokens)
    assert len(counts) == 1, f"not the same tokens: {counts}"
    where = f"{workers} Dask workers, {CORES} threads" if workers else "one core"
    print(f"\n{where}, {repeats} repetitions")
    for name, values in rates.items():
        spread = f"{min(values) / 1e6:.2f} to {max(values) / 1e6:.2f}"
        print(f"{name:18} {statistics.median(values) / 1e6:.2f} Mtokens/s ({spread})")
    met = True
    for name, target in (("encode_batch", TARGET_SPEEDUP), ("encode_batch_fast", None)):
        pairs = zip(rates["stage"], rates[name], strict=True)
        ratio = statistics.median(ours / their for ours, their in pairs)
        verdict = ""
        if target is not None:
            met = ratio >= target
            verdict = f", target {target}: {'met' if met else 'MISSED'}"
        print(f"stage / {name}: {ratio:.2f}{verdict}", flush=True)
    return met


def train_library_vocab(documents: list[str]) -> bytes:
    """Train the vocabulary with the library's trainer."""
    tokenizer = empty_bpe(PretokenizerRule())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=MIN_FREQUENCY,
        special_tokens=[EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer.to_str(pretty=True).encode()


def main() -> None:
    """Run all comparisons and print them; exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=16)
    parser.add_argument("--repeats", type=int, default=6)
    options = parser.parse_args()
    documents = texts(options.megabytes)
    size = sum(len(text.encode()) for text in documents) / 1e6
    print(f"{len(documents)} documents, {size:.1f} MB, vocabulary {VOCABULARY}")
    train_bpe_from_texts(documents[:PART], vocab_size=400, special_tokens=[EOS])  # compiles kernels
    start = time.perf_counter()
    vocabulary = train_bpe_from_texts(documents, vocab_size=VOCABULARY, special_tokens=[EOS])
    ours = time.perf_counter()
    assert train_library_vocab(documents) == vocabulary, "tokenizer.json differs from the library's"
    theirs = time.perf_counter()
    print(
        f"\ntraining, one core: {ours - start:.2f} s, tokenizers {theirs - ours:.2f} s, same bytes"
    )
    met = [compare(documents, vocabulary, n, options.repeats) for n in (0, CORES)]
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
