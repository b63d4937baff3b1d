"""How fast near-duplicates are removed: Gristmill beside datatrove, text-dedup and rensa.

    python -m benchmarks.bench_dedup_speed [--megabytes N] [--no-peers] [--input PATH ...]

Some 350 MB of real text (``dedup_text.py``), 112 hashes in 14 bands of 8 over word 5-grams for all.

* Signatures: text to digest and signature, CPU seconds of one core, the better of two runs.
* The whole stage: from Parquet to committed verdicts, as ``gristmill run`` reports the seconds of
  ``dedup`` (signatures, join, verification, clusters) and ``select`` (survivor selection, verdicts, corpus),
  with two workers that are there already and have their kernels loaded; the median of three runs.
* Peers: wall seconds of their own stages on the same text, without installation and imports (but
  datatrove starts the processes of each stage itself). The slow ones need minutes.

Exits with 1 if a target is missed.

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
from benchmarks.dedup_peers import NotMeasured, Peer, datatrove, rensa, run_peer, text_dedup
from benchmarks.dedup_text import TextUnavailableError, corpus, read, size
from infra.minhash.sketch import ShingleReader

NGRAM, PERMUTATIONS, SEED = 5, 112, 1
WORKERS, FILES = 2, 16
TARGET_SIGNATURE_MB_S = 100.0  # MB/s of one core: the target
WARM_DOCUMENTS, RUNS = 64, 3


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
class GristmillTimes:
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
    reader = ShingleReader(NGRAM)
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


def write_parquet(texts: pa.Table, folder: Path) -> Path:
    """Write Parquet files of about equal numbers of documents."""
    folder.mkdir(parents=True)
    for number in range(FILES):
        start, end = (texts.num_rows * k // FILES for k in (number, number + 1))
        if end > start:
            part = texts.slice(start, end - start)
            pq.write_table(part, folder / f"{number:02}.parquet", compression="zstd")
    return folder


def warmup_texts(texts: pa.Table) -> pa.Table:
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


def run_gristmill(texts: pa.Table, work: Path, workers: gristmill.Workers) -> GristmillTimes:
    """One run over one corpus: annotations first, so that nothing runs beside ``dedup``.

    The documents are then taken in again, which changes nothing but lets the run connect to its
    workers before ``dedup`` begins; once more alone, to know the CPU seconds that this takes.
    """
    folder = write_parquet(texts, work / "documents")
    recipe = gristmill.write_recipe(folder, work, cluster={"address": workers.address})
    printed, cpu = [], []
    for until in ("annotate", "annotate", "select"):
        shutil.rmtree(work / "data" / "acquire", ignore_errors=True)
        start = workers.cpu()
        printed.append(gristmill.run(recipe, until))
        cpu.append(workers.cpu() - start)
    done = gristmill.read_result(*printed)
    dedup, select = done.seconds["dedup"], done.seconds["select"]
    megabytes = size(texts) / 1e6
    both = Timed(megabytes, dedup + select, cpu[2] - cpu[1])
    return GristmillTimes(Timed(megabytes, dedup), both, len(done.removed))


def show(name: str, timed: Timed, note: str = "") -> None:
    """One line of the table."""
    cpu = f"{timed.cpu:9.2f} s CPU" if timed.cpu else ""
    print(
        f"{name:36}{timed.megabytes:8.1f} MB{timed.seconds:9.2f} s{timed.speed:9.2f} MB/s{cpu}  {note}"
    )


def compare(peer: Peer, folder: Path, ours: GristmillTimes, min_speedup: float | None) -> bool:
    """Run a peer on the same text; print its line, how many times as fast we are; give if it is enough.

    ``None``: no target, the row is for information.
    """
    try:
        answer = run_peer(peer, folder)
    except NotMeasured as reason:
        print(f"{peer.name}: not measured: {reason}")
        return False
    timed = Timed(ours.both.megabytes, answer.total, answer.cpu)
    stages = ", ".join(f"{stage} {spent:.1f}" for stage, spent in answer.seconds.items())
    show(f"{peer.name}, {answer.version}", timed, f"{len(answer.removed):,} removed; {stages}")
    most = ours.both.speed / timed.speed
    enough = min_speedup is None or most >= min_speedup
    target = "no target" if min_speedup is None else f"target {min_speedup:g}: {_verdict(enough)}"
    print(
        f"{'':6}gristmill is {most:.1f} times as fast, {target}"
        f" (dedup without select {ours.dedup.speed / timed.speed:.1f}; by CPU seconds"
        f" {ours.both.per_cpu / timed.per_cpu:.1f})",
        flush=True,
    )
    return enough


def measure(texts: pa.Table, *, peers: bool) -> bool:
    """Time everything and print it as it comes; give whether every target was met."""
    print(
        f"{texts.num_rows:,} documents, {size(texts) / 1e6:.1f} MB; {os.cpu_count()} cores, "
        f"load {_load()}"
    )
    made = signatures(texts)
    show("gristmill signatures, one core", made)
    met = [made.speed >= TARGET_SIGNATURE_MB_S]
    print(f"{'':6}target {TARGET_SIGNATURE_MB_S:g} MB/s: {_verdict(met[0])}")
    with tempfile.TemporaryDirectory() as temporary, gristmill.start_workers(WORKERS) as workers:
        runs = []
        for number in range(RUNS + 1):
            work = Path(temporary, str(number))
            work.mkdir()
            runs.append(run_gristmill(texts if number else warmup_texts(texts), work, workers))
            shutil.rmtree(work)
    runs = sorted(runs[1:], key=lambda one: one.both.seconds)
    for one in runs:
        note = f"{one.removed:,} removed; dedup alone {one.dedup.seconds:.2f} s"
        show(f"gristmill, {WORKERS} workers", one.both, note)
    mine = runs[RUNS // 2]
    if peers:
        with tempfile.TemporaryDirectory() as temporary:
            folder = write_parquet(texts.select(["id", "text"]), Path(temporary, "all"))
            for peer, least in (
                (rensa(), 5.0),
                (text_dedup(1), 25.0),
                (text_dedup(WORKERS), None),  # its command line's default is one process
                (datatrove(WORKERS), 50.0),
            ):
                met.append(compare(peer, folder, mine, least))
    print(f"load at the end {_load()}")
    return all(met)


def _verdict(met: bool) -> str:  # noqa: FBT001
    return "met" if met else "MISSED"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--megabytes", type=float, help="of text; default: all there is")
    parser.add_argument(
        "--input", nargs="*", type=Path, default=[], help="instead of Debian's text"
    )
    parser.add_argument("--no-peers", action="store_true", help="Gristmill alone")
    options = parser.parse_args()
    try:
        folder = corpus(options.input)
    except TextUnavailableError as error:
        sys.exit(f"error: {error}")
    try:
        met = measure(read(folder, options.megabytes), peers=not options.no_peers)
    except gristmill.RunFailedError as error:
        sys.exit(f"error: gristmill run failed: {error}")
    sys.exit(not met)


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


if __name__ == "__main__":
    main()
