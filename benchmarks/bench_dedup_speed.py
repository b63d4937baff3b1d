"""How fast near-duplicates are removed: Gristmill beside datatrove, text-dedup and rensa.

    python -m benchmarks.bench_dedup_speed [--megabytes N] [--peer-megabytes M] [--input PATH ...]

Some 350 MB of real text (``dedup_text.py``), 112 hashes in 14 bands of 8 over word 5-grams for all.

* Signatures: text to digest and signature, CPU seconds of one core, the better of two runs.
* The whole stage: from Parquet to committed verdicts, as ``gristmill run`` reports the seconds of
  ``dedup`` (signatures, join, verification, clusters) and ``select`` (election, verdicts, corpus),
  with two workers that are there already and have their kernels loaded.
* Peers: wall seconds of their own stages without installation and imports. datatrove and text-dedup
  need minutes for 100 MB, so they get the first ``--peer-megabytes`` of the text, which are a fair
  sample; Gristmill runs on that part too, and both ratios are printed. rensa gets all of it.

Nothing else should run meanwhile; the load average is printed to show whether something did. CPU
seconds, of all processes that work, are what it disturbs least; for Gristmill they are those of
the workers, without the process that the command line runs in.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import dedup_gristmill as gristmill
from benchmarks.dedup_peers import NotMeasured, Peer, ask, datatrove, rensa, text_dedup
from benchmarks.dedup_text import NoText, corpus, read, size
from tasks.dedup.sketch import Reader

NGRAM, PERMUTATIONS, SEED = 5, 112, 1
WORKERS, FILES = 2, 16
SIGNATURES = 100.0  # MB/s of one core: the target
WARM_DOCUMENTS = 64


@dataclass(frozen=True)
class Timed:
    """Megabytes of text, and the wall and CPU seconds that they took."""

    megabytes: float
    seconds: float
    cpu: float = 0.0

    @property
    def speed(self) -> float:
        """Megabytes a second."""
        return self.megabytes / self.seconds

    @property
    def per_cpu(self) -> float:
        """Megabytes a CPU second."""
        return self.megabytes / self.cpu


@dataclass(frozen=True)
class Ours:
    """The stage's seconds over one corpus."""

    dedup: Timed
    both: Timed
    removed: int


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def signatures(texts: pa.Table) -> Timed:
    """CPU seconds for every signature, the better of two runs."""
    reader = Reader(NGRAM)
    column = texts["text"]
    reader.sketch(column.slice(0, 1), SEED, PERMUTATIONS)  # compiled outside the timing
    best = float("inf")
    with one_core():
        for _ in range(2):
            start = time.process_time()
            for chunk in column.chunks:
                reader.sketch(chunk, SEED, PERMUTATIONS)
            best = min(best, time.process_time() - start)
    return Timed(size(texts) / 1e6, best)


def spread(texts: pa.Table, folder: Path) -> Path:
    """Write Parquet files of about equal numbers of documents."""
    folder.mkdir(parents=True)
    for number in range(FILES):
        start, end = (texts.num_rows * k // FILES for k in (number, number + 1))
        if end > start:
            part = texts.slice(start, end - start)
            pq.write_table(part, folder / f"{number:02}.parquet", compression="zstd")
    return folder


def warm(texts: pa.Table) -> pa.Table:
    """A few documents and near-duplicates of them, so that every kernel is loaded."""
    few = texts.slice(0, WARM_DOCUMENTS)
    copies = pa.table(
        {
            **{name: few[name] for name in few.column_names},
            "url": pa.array([f"{url}#copy" for url in few["url"]], pa.string()),
            "text": pa.array([f"{text} And so on." for text in few["text"]], pa.large_string()),
        }
    )
    return pa.concat_tables([few, copies])


def ours(texts: pa.Table, work: Path, workers: gristmill.Workers) -> Ours:
    """One run over one corpus: annotations first, so that nothing runs beside ``dedup``.

    The documents are then taken in again, which changes nothing but lets the run connect to its
    workers before ``dedup`` begins; once more alone, to know the CPU seconds that this takes.
    """
    folder = spread(texts, work / "documents")
    recipe = gristmill.recipe(folder, work, cluster={"address": workers.address})
    printed, cpu = [], []
    for until in ("annotate", "annotate", "select"):
        shutil.rmtree(work / "data" / "acquire", ignore_errors=True)
        start = workers.cpu()
        printed.append(gristmill.run(recipe, until))
        cpu.append(workers.cpu() - start)
    done = gristmill.outcome(*printed)
    dedup, select = done.seconds["dedup"], done.seconds["select"]
    megabytes = size(texts) / 1e6
    both = Timed(megabytes, dedup + select, cpu[2] - cpu[1])
    return Ours(Timed(megabytes, dedup), both, len(done.removed))


def show(name: str, timed: Timed, note: str = "") -> None:
    """One line of the table."""
    cpu = f"{timed.cpu:9.2f} s CPU" if timed.cpu else ""
    print(
        f"{name:36}{timed.megabytes:8.1f} MB{timed.seconds:9.2f} s{timed.speed:9.2f} MB/s{cpu}  {note}"
    )


def compare(
    peer: Peer, folder: Path, megabytes: float, near: Ours, whole: Ours, least: float
) -> None:
    """Run a peer; print its line and how many times as fast we are."""
    try:
        answer = ask(peer, folder)
    except NotMeasured as reason:
        print(f"{peer.name}: not measured: {reason}")
        return
    timed = Timed(megabytes, answer.total, answer.cpu)
    stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in answer.seconds.items())
    show(f"{peer.name}, {answer.version}", timed, f"{len(answer.removed):,} removed; {stages}")
    most = whole.both.speed / timed.speed
    verdict = "met" if most >= least else "MISSED"
    print(f"{'':6}gristmill is {most:.1f} times as fast, target {least:g}: {verdict}", end="")
    print(
        f" (dedup without select {whole.dedup.speed / timed.speed:.1f}; the same text"
        f" {near.both.speed / timed.speed:.1f}; by CPU seconds"
        f" {whole.both.per_cpu / timed.per_cpu:.1f})"
    )


def measure(texts: pa.Table, folder: Path, peer_megabytes: float, *, peers: bool) -> None:
    """Time everything and print it as it comes."""
    part = read(folder, min(peer_megabytes, size(texts) / 1e6))
    print(
        f"{texts.num_rows:,} documents, {size(texts) / 1e6:.1f} MB; the slow peers' part "
        f"{part.num_rows:,} documents, {size(part) / 1e6:.1f} MB; {os.cpu_count()} cores, load {_load()}"
    )
    made = signatures(texts)
    show("gristmill signatures, one core", made)
    verdict = "met" if made.speed >= SIGNATURES else "MISSED"
    print(f"{'':6}target {SIGNATURES:g} MB/s: {verdict}")
    with tempfile.TemporaryDirectory() as temporary, gristmill.workers(WORKERS) as workers:
        work = Path(temporary)
        for name in ("warm", "part", "all"):
            (work / name).mkdir()
        ours(warm(texts), work / "warm", workers)
        near, whole = ours(part, work / "part", workers), ours(texts, work / "all", workers)
        for name, one in (("all", whole), ("the part", near)):
            note = f"{one.removed:,} removed; dedup alone {one.dedup.seconds:.2f} s"
            show(f"gristmill, {WORKERS} workers, {name}", one.both, note)
    if not peers:
        return
    with tempfile.TemporaryDirectory() as temporary:
        every = spread(texts.select(["id", "text"]), Path(temporary, "all"))
        some = spread(part.select(["id", "text"]), Path(temporary, "part"))
        compare(rensa(), every, size(texts) / 1e6, whole, whole, 5)
        slow = ((text_dedup(1), 25.0), (text_dedup(WORKERS), 25.0), (datatrove(WORKERS), 50.0))
        for peer, least in slow:
            compare(peer, some, size(part) / 1e6, near, whole, least)
    print(f"load at the end {_load()}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--megabytes", type=float, help="of text; default: all there is")
    parser.add_argument("--peer-megabytes", type=float, default=40, help="for the slow peers")
    parser.add_argument(
        "--input", nargs="*", type=Path, default=[], help="instead of Debian's text"
    )
    parser.add_argument("--no-peers", action="store_true", help="Gristmill alone")
    options = parser.parse_args()
    try:
        folder = corpus(options.input)
    except NoText as error:
        sys.exit(f"error: {error}")
    try:
        measure(
            read(folder, options.megabytes),
            folder,
            options.peer_megabytes,
            peers=not options.no_peers,
        )
    except gristmill.RunFailed as error:
        sys.exit(f"error: gristmill run failed: {error}")


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


if __name__ == "__main__":
    main()
