"""The n-gram family beside KenLM's lmplz, on the same ids: perplexity and time.

    python -m benchmarks.bench_ngram [--megabytes N] [--repeats N]

Both estimate models of orders 3 and 5, and one of order 5 that is pruned, from the same training ids
and write ARPA files: lmplz from a text file of ids, ours from committed token shards through the
commit of the model, in one process and on as many Dask workers as there are cores. KenLM's ``query``
then reads both files and scores the same held-out ids. Wall and CPU seconds are medians; runs take
turns. Exits with 1 if a perplexity differs by more than 1e-3, or ours takes longer than lmplz.

lmplz is built from KenLM's source archive, which needs cmake, a C++ compiler and Boost
(Debian: libboost-program-options-dev libboost-thread-dev libboost-iostreams-dev libboost-system-dev
libboost-test-dev zlib1g-dev).

Text: Python sources of the installed packages, which every machine has.
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from benchmarks.bench_tokenize import texts
from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.download.pypi import fetch_archive
from infra.formats.megatron import TRAIN, Tokens, token_dtype
from infra.store.cache_dir import cache_root
from infra.store.storage import Storage
from lm.models.ngram import train
from lm.models.ngram.arpa import write_arpa
from lm.models.ngram.config import NgramConfig, NgramEntry
from lm.models.ngram.files import MODEL_FILE, load_model
from tasks.tokenize.bpe import train_bpe_from_texts
from tests.shard_writer import TokenShardWriter

VERSION = "0.3.0"
ARCHIVE = (
    f"kenlm-{VERSION}.tar.gz",
    "c4628bb9fb63c8a6f9240035b8b037385cfc404cb72e933cf48878291edac1e8",
)
VOCABULARY, EOS = 8192, "<|endoftext|>"
TOKENIZER_TEXTS = 500
HELD_OUT = 20  # one document of so many
PARTS = 8
STAGE = Stage("tokenize", ())
SETTINGS = ((3, (0,)), (5, (0,)), (5, (0, 0, 1)))
MAX_DIFFERENCE, MAX_TIME_RATIO = 1e-3, 1.0


def build_kenlm() -> Path:
    """Return the folder of ``lmplz`` and ``query``; they are built once per machine."""
    folder = cache_root() / "bench" / f"kenlm-{VERSION}"
    programs = folder / "build" / "bin"
    if not (programs / "query").exists():
        archive = fetch_archive("kenlm", VERSION, *ARCHIVE)
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        source, build = folder / f"kenlm-{VERSION}", folder / "build"
        settings = ["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_POLICY_VERSION_MINIMUM=3.5"]
        commands = (
            ["cmake", "-S", str(source), "-B", str(build), *settings],
            ["cmake", "--build", str(build), "--target", "lmplz", "query"],
        )
        for command in commands:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return programs


def encode(megabytes: float) -> tuple[list[Tokens], list[Tokens], int]:
    """Return training and held-out documents, and the number of ids.

    Ids are those that occur in the training documents, 0 the end of text, and one for all others, the
    last: lmplz distributes what is left over the words that occur and ``<unk>``.
    """
    documents = texts(megabytes)
    vocabulary = train_bpe_from_texts(
        documents[::-1][:TOKENIZER_TEXTS], vocab_size=VOCABULARY, special_tokens=[EOS]
    )
    tokenizer = Tokenizer.from_buffer(vocabulary)
    eos = tokenizer.token_to_id(EOS)
    encoded = [np.array([*item.ids, eos]) for item in tokenizer.encode_batch(documents)]
    training = [ids for number, ids in enumerate(encoded) if number % HELD_OUT]
    occurring = np.unique(np.concatenate(training))
    others = len(occurring)
    number = np.full(VOCABULARY, others)
    number[occurring[occurring != eos]] = np.arange(1, others)
    number[eos] = 0
    training = [number[ids] for ids in training]
    return training, [number[ids] for ids in encoded[::HELD_OUT]], others + 1


def commit_shards(root: Path, documents: list[Tokens], vocab_size: int) -> Dataset:
    """Commit token shards of training documents."""

    def one_part(first: int) -> Iterator[PartResult]:
        writer = TokenShardWriter(token_dtype(vocab_size))
        rows = []
        for index in range(first, len(documents), PARTS):
            writer.add(documents[index])
            rows.append({"id": f"d{index}"})
        files = {f"{TRAIN}.bin": writer.bin_bytes(), f"{TRAIN}.idx": writer.idx_bytes()}
        table = pa.Table.from_pylist(rows)
        yield PartResult(table, ledger_table("tokenize", table["id"].to_pylist()), files)

    stats = {
        "vocab_size": vocab_size,
        "eos_id": 0,
        "tokens": {TRAIN: sum(map(len, documents))},
        "documents": {TRAIN: len(documents)},
        "dtype": "uint16",
    }
    units = [WorkUnit(str(first), (first,)) for first in range(PARTS)]
    ctx = Context(Storage(str(root)), 1337, cluster(0), NullReporter())
    files = {"tokenizer.json": b"{}"}
    spec = DatasetSpec(STAGE, None, {})
    return build_dataset(ctx, spec, units, one_part, files=files, stats=lambda _: stats)


def cluster(workers: int) -> DaskCluster:
    """Return a cluster of this machine; 0 workers: this process."""
    return DaskCluster(ClusterConfig.model_validate({"workers": workers}))


def write_ids(documents: list[Tokens], path: Path) -> None:
    """Write a line of ids per document; its end of text is the end of the line."""
    with path.open("w") as file:
        for ids in documents:
            file.write(" ".join(map(str, ids[:-1].tolist())) + "\n")


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(item.ru_utime + item.ru_stime for item in used)


def run_lmplz(programs: Path, ids: Path, arpa: Path, order: int, prune: tuple[int, ...]) -> None:
    """Estimate with lmplz; its memory limit is above what it needs."""
    command = [str(programs / "lmplz"), "-o", str(order), "--text", str(ids), "--arpa", str(arpa)]
    command += ["-S", "2G", "-T", str(arpa.parent), "--prune", *map(str, prune)]
    subprocess.run(command, check=True, capture_output=True)


def run_ours(root: Path, tokens: Dataset, arpa: Path, here: DaskCluster, model: NgramConfig) -> Any:
    """Count, commit and write the ARPA file; return the model."""
    ctx = Context(Storage(str(root)), 1337, here, NullReporter())
    config = NgramEntry(name="ngram", family="ngram", model=model)
    data = train.build(ctx, train.spec(ctx, config, tokens), config, tokens)
    path = data.storage.local_path(data.manifest.files[MODEL_FILE].name)
    assert path is not None
    loaded = load_model(path.parent)
    with arpa.open("wb") as file:
        write_arpa(loaded, file)
    return loaded


def query_perplexity(programs: Path, arpa: Path, ids: Path) -> float:
    """Return the perplexity of ids with the model of an ARPA file, by KenLM's ``query``."""
    with ids.open() as file:
        command = [str(programs / "query"), "-v", "summary", str(arpa)]
        done = subprocess.run(command, check=True, stdin=file, capture_output=True, text=True)
    found = re.search(r"Perplexity including OOVs:\s*([\d.]+)", done.stdout + done.stderr)
    assert found is not None, done.stdout
    return float(found[1])


def main() -> None:
    """Measure, print, and exit with 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    programs = build_kenlm()
    training, held_out, vocab_size = encode(options.megabytes)
    total = sum(map(len, training))
    print(
        f"{total:,} training tokens, {sum(map(len, held_out)):,} held out, {vocab_size:,} ids; "
        f"{cores} cores, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    met = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train_text, test_text = folder / "train.txt", folder / "test.txt"
        write_ids(training, train_text)
        write_ids(held_out, test_text)
        tokens = commit_shards(folder / "store", training, vocab_size)
        clusters = {"ours, one process": cluster(0), f"ours, {cores} workers": cluster(cores)}
        for name, here in clusters.items():  # compiles kernels, starts workers
            run_ours(
                folder / f"warm {name}", tokens, folder / "warm.arpa", here, NgramConfig(order=3)
            )
        for order, prune in SETTINGS:
            walls: dict[str, list[float]] = {}
            cpus: dict[str, list[float]] = {}
            perplexities: dict[str, float] = {}
            for repeat in range(options.repeats):
                for name in ("lmplz", *clusters):
                    arpa = folder / f"{name}.arpa"
                    start, cpu = time.perf_counter(), cpu_seconds()
                    if name == "lmplz":
                        run_lmplz(programs, train_text, arpa, order, prune)
                        model = None
                    else:
                        root = folder / f"{name} {order} {prune} {repeat}"
                        config = NgramConfig(order=order, prune=prune)
                        model = run_ours(root, tokens, arpa, clusters[name], config)
                    walls.setdefault(name, []).append(time.perf_counter() - start)
                    cpus.setdefault(name, []).append(cpu_seconds() - cpu)
                    if repeat == 0:
                        perplexities[name] = query_perplexity(programs, arpa, test_text)
                        if model is not None:
                            nats = np.concatenate([model.score(ids) for ids in held_out])
                            perplexities[f"{name}, own scorer"] = float(np.exp(nats.mean()))
            print(f"\norder {order}, prune {list(prune)}; load {os.getloadavg()[0]:.1f}")
            reference = perplexities["lmplz"]
            for name, perplexity in perplexities.items():
                difference = perplexity / reference - 1
                met &= abs(difference) <= MAX_DIFFERENCE
                times = ""
                if name in walls:
                    wall, cpu = statistics.median(walls[name]), statistics.median(cpus[name])
                    ratio = wall / statistics.median(walls["lmplz"])
                    times = f"{wall:8.2f} s {ratio:6.2f} x"
                    times += f"{cpu:8.2f} s of CPU" if "workers" not in name else ""
                    met &= ratio <= MAX_TIME_RATIO
                print(
                    f"{name:32} perplexity {perplexity:9.4f} ({difference:+.1e}){times}", flush=True
                )
        for here in clusters.values():
            here.close()
    sys.exit(not met)


if __name__ == "__main__":
    main()
