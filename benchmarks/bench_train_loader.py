"""The data loader's speed, compared with what models consume and with nanoGPT's loader.

    python benchmarks/bench_train_loader.py [--nanogpt REPOSITORY] [--seconds S] [--no-s3]

Over the same documents, one process on this machine: tokens per second that the loader serves from
local shards with each way of packing, and from an S3 server on this machine with a cache that is
empty at first; nanoGPT's own ``get_batch`` over the same ids; and what two models learn from in a
second at their fastest here, with the fraction of the time that they wait for data.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.train_peers import NANOGPT, NotMeasured, clone
from benchmarks.train_text import bench_root
from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.megatron import TRAIN, TokenShards, token_dtype
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.data.loader import build_loader
from lm.metrics.logger import read_jsonl
from lm.train.job import TrainJob
from lm.train.loop import train
from tests.servers import seaweed
from tests.shard_writer import TokenShardWriter
from tests.train_entry import train_config as as_train_config

STAGE = Stage("tokenize", ())
PARTS, PART_TOKENS, VOCABULARY = 4, 4_000_000, 65
PEER_SCRIPT = Path(__file__).parent / "peers" / "loader_nanogpt.py"
TURNS = 3
SHAPES: dict[str, dict[str, Any]] = {
    "0.8M parameters": {
        "num_layers": 4,
        "hidden_size": 128,
        "num_heads": 4,
        "context_length": 64,
        "global_batch_size": 12,
    },
    "10.6M parameters": {
        "num_layers": 6,
        "hidden_size": 384,
        "num_heads": 6,
        "context_length": 256,
        "global_batch_size": 16,
    },
}
TARGET = 50  # times what the model consumes
STEPS = {"0.8M parameters": 150, "10.6M parameters": 12}
PACKINGS: dict[str, dict[str, Any]] = {
    "concatenate": {},
    "concatenate_masked": {"packing": "concatenate_masked"},
    "best_fit_masked": {"packing": "best_fit_masked"},
    "mixture, best_fit_masked": {"packing": "best_fit_masked", "mixture": {"books": 1, "web": 3}},
    "concatenate, in pools": {"shuffle_window_tokens": 2_000_000},
}


def part(number: int) -> Iterator[PartResult]:
    """Return a part of documents of random ids, with lengths like natural texts."""
    draws = np.random.default_rng(number)
    writer, rows = TokenShardWriter(token_dtype(VOCABULARY)), []
    while writer.num_tokens < PART_TOKENS:
        ids = draws.integers(1, VOCABULARY, int(draws.lognormal(6, 1)) + 2)
        ids[-1] = 0
        place, offset = writer.add(ids)
        row = {"id": f"{number}-{place}", "url": None, "source": ("books", "web")[number % 2]}
        rows.append(
            {**row, "split": TRAIN, "sequence": place, "tokens": len(ids), "offset": offset}
        )
    files = {f"{TRAIN}.bin": writer.bin_bytes(), f"{TRAIN}.idx": writer.idx_bytes()}
    table = pa.Table.from_pylist(rows)
    yield PartResult(table, ledger_table("tokenize", table["id"].to_pylist()), files)


def corpus(storage: Storage) -> Dataset:
    """Write token shards of two sources."""
    ctx = Context(
        storage, 1, DaskCluster(ClusterConfig.model_validate({"workers": 0})), NullReporter()
    )

    def facts(parts: list[Any]) -> dict[str, Any]:
        tables = [part.table(["tokens"]) for part in parts]
        tokens = sum(sum(table["tokens"].to_pylist()) for table in tables)
        documents = sum(table.num_rows for table in tables)
        counted = {"tokens": {TRAIN: tokens, "validation": 0}, "documents": {TRAIN: documents}}
        return {"vocab_size": VOCABULARY, "eos_id": 0, **counted}

    units = [WorkUnit(str(number), (number,)) for number in range(PARTS)]
    return build_dataset(ctx, DatasetSpec(STAGE, None, {}), units, part, stats=facts)


def train_config(shape: str, **settings: Any) -> TrainConfig:
    """Return an entry of a recipe's ``train`` list."""
    given = {
        "name": "bench",
        "num_processes": 1,
        "train_tokens": 1 << 40,
        **SHAPES[shape],
        **settings,
    }
    return as_train_config(**given)


def measure_loader(tokens: Dataset, config: TrainConfig, cache: Path, seconds: float) -> float:
    """Return the tokens per second that a loader delivers, including its start."""
    start = time.perf_counter()
    loader = build_loader(config, tokens, 1, 0, 1, cache)
    count = 0
    while time.perf_counter() - start < seconds:
        count += int((next(loader).rows[:, 1:] >= 0).sum())
    duration = time.perf_counter() - start
    loader.close()
    return count / duration


def measure_training(tokens: Dataset, shape: str, folder: Path) -> tuple[float, float]:
    """Return the tokens per second of a fast run, and the fraction of waiting for data."""
    config = train_config(shape)
    size = STEPS[shape] * config.sequences_per_step * config.model.context_length
    changes = {
        "train_tokens": size,
        "threads_per_process": os.cpu_count(),
        "validation_tokens": 0,
        "log_interval": 3,
    }
    config = train_config(shape, **changes, device="cpu", checkpoint_interval=1 << 30)
    with contextlib.redirect_stdout(io.StringIO()):  # the log's lines
        train(TrainJob(config, 1, tokens.storage, folder))
    lines = read_jsonl(folder / "metrics.jsonl")[2:]
    rate = statistics.median(line["tokens_per_second"] for line in lines)
    return rate, statistics.median(line["data_wait_fraction"] for line in lines)


def measure_nanogpt(repository: Path, ids: Path, shape: str, seconds: float) -> float:
    """Return the tokens per second of nanoGPT's ``get_batch``."""
    context, batch = (str(SHAPES[shape][name]) for name in ("context", "batch"))
    command = [
        sys.executable,
        str(PEER_SCRIPT),
        str(repository),
        str(ids),
        context,
        batch,
        str(seconds),
    ]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return float(json.loads(done.stdout)["tokens_per_second"])


def main() -> None:
    """Measure in turns and print; exit with 1 if local shards are loaded too slowly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nanogpt", default=NANOGPT, help="where to clone nanoGPT from")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--no-s3", action="store_true", help="without the S3 server")
    options = parser.parse_args()
    slowest = float("inf")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        far: Dataset | None = None
        if not options.no_s3:
            server = stack.enter_context(seaweed(folder / "weed"))
            os.environ.update(server.env)
            far = corpus(Storage(f"s3://{server.bucket}/loader"))
        tokens = corpus(Storage(str(folder / "store")))
        shards = TokenShards(tokens, TRAIN)
        flat = folder / "train.bin"
        shards.read(0, len(shards)).astype(np.uint16).tofile(flat)
        print(f"{len(shards) / 1e6:.1f} M tokens, {shards.num_documents:,} documents, one process")
        for shape in SHAPES:
            rate, waits = measure_training(tokens, shape, folder / shape)
            print(f"\n{shape}, T={SHAPES[shape]['context']}, batch {SHAPES[shape]['batch']}")
            print(f"{'  consumed in training':34} {rate:14,.0f} tokens/s, data wait {waits:.2%}")
            ways = {name: train_config(shape, **settings) for name, settings in PACKINGS.items()}
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(TURNS):
                for name, config in ways.items():
                    rates[name].append(
                        measure_loader(tokens, config, folder / "none", options.seconds)
                    )
            peer = "nanoGPT's get_batch"
            try:
                repository = clone(options.nanogpt, bench_root() / "nanoGPT")
                rates[peer] = [
                    measure_nanogpt(repository, flat, shape, options.seconds) for _ in range(TURNS)
                ]
            except NotMeasured as error:
                print(f"  {peer}: not measured: {error}")
            for name, duration in rates.items():
                middle = statistics.median(duration)
                print(f"  {name:32} {middle:14,.0f} tokens/s, {middle / rate:8,.0f} x the model")
                if name in ways:
                    slowest = min(slowest, middle / rate)
            config = train_config(shape, **PACKINGS["concatenate, in pools"])
            for name in ("S3, nothing read yet", "S3, read before"):
                if far is None:
                    break
                found = measure_loader(far, config, folder / f"cache {shape}", options.seconds)
                print(f"  {name:32} {found:14,.0f} tokens/s, {found / rate:8,.0f} x the model")
    verdict = "met" if slowest >= TARGET else "MISSED"
    print(f"\nlocal shards, slowest: {slowest:,.0f} x the model, target {TARGET}: {verdict}")
    sys.exit(slowest < TARGET)


if __name__ == "__main__":
    main()
