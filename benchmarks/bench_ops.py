"""What orchestration costs, each figure with its ceiling: `python -m benchmarks.bench_ops [NAME ...]`.

Figures in seconds of wall time suppose a machine with two cores that does nothing else. Exits with 1
if a figure is above its ceiling.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from pathlib import Path

import psutil
import yaml

from benchmarks.ops_part import do_nothing
from benchmarks.s3_proxy import s3_proxy
from examples.quickstart.__main__ import RECIPE as QUICKSTART
from examples.quickstart.build import fetch_quickstart
from examples.quickstart.serve_site import serve_site
from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.dataset.dataset import open_dataset
from infra.dataset.manifest import MANIFEST
from infra.store.storage import Storage
from tests.caches import make_cache
from tests.e2e.command import GRISTMILL, PREFECT, environment, write_recipe
from tests.e2e.corpora import docstrings, mixed, recipe, write_jsonl
from tests.e2e.prefect_server import Prefect, prefect_server
from tests.limits import wait_for
from tests.processes import ROOT, guarded, process_tree
from tests.servers import free_port, seaweed

PARTS = 10_000
SETTLE_S = 120.0  # until the server has stored what it was sent
IDLE_S = 20.0
REPEATS = 3
SHORTER = 10  # times fewer steps of training than the quickstart has
KEEP_S = 3600


@dataclass(frozen=True)
class Figure:
    """A figure, and the ceiling that it must not exceed; without one it is for information."""

    name: str
    value: float
    unit: str
    ceiling: float | None = None

    @property
    def passed(self) -> bool:
        """Whether it is within its ceiling."""
        return self.ceiling is None or self.value <= self.ceiling

    def __str__(self) -> str:
        """One line."""
        limit = "" if self.ceiling is None else f"(ceiling {self.ceiling:g}: "
        result = limit and ("ok)" if self.passed else "MISSED)")
        return f"{self.name:<64}{self.value:10.2f} {self.unit:<10}{limit}{result}"


def fixed_cost(folder: Path) -> Iterator[Figure]:
    """A run with one small step left: without a server, with one that is there, with two workers."""
    home = folder / "home"
    corpus = mixed(folder / "in", 20)
    for workers in (0, 2):
        value = recipe(folder / "data", corpus, cluster={"workers": workers})
        write_recipe(folder / f"{workers}.yaml", value)
    vocabulary = iter(range(600, 10_000, 10))

    def run(workers: int, keep_s: float) -> tuple[float, float]:
        """Run with another vocabulary; return CPU and wall seconds."""
        change = f"tokenize.vocab_size={next(vocabulary)}"
        path = str(folder / f"{workers}.yaml")
        env = environment(home, GRISTMILL_KEEP_SERVER_S=str(keep_s))
        before, start = _cpu_of_children() + _server_cpu(home), time.monotonic()
        _check_call([str(GRISTMILL), "run", path, "--set", change], env)
        seconds = time.monotonic() - start
        return _cpu_of_children() + _server_cpu(home) - before, seconds

    run(0, 0)  # compiles kernels, makes the database and all steps before
    cpu, seconds = run(0, 0)
    yield Figure("small run that starts a server: CPU", cpu, "s")
    yield Figure("small run that starts a server: wall time", seconds, "s")
    run(0, KEEP_S)
    try:
        for workers, ceiling in ((0, 8.0), (2, None)):
            pairs = [run(workers, KEEP_S) for _ in range(REPEATS)]
            cpu, seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
            label = f"small run, kept server, cluster.workers: {workers}"
            yield Figure(f"{label}: CPU", cpu, "s", ceiling)
            yield Figure(f"{label}: wall time", seconds, "s")
    finally:
        _local_server(home).terminate()


def scheduled(folder: Path) -> Iterator[Figure]:
    """A run of a deployment that finds nothing to do, from the start of its process to its end."""
    data = folder / "data"
    value = recipe(data, mixed(folder / "in", 20))
    with prefect_server(folder) as prefect:
        for arguments in (
            ("work-pool", "create", "--type", "process", "gristmill"),
            ("deploy", "--all"),
        ):
            _check_call([PREFECT, "--no-prompt", *arguments], prefect.env)
        worker = [PREFECT, "worker", "start", "--pool", "gristmill"]
        env = {**prefect.env, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        with (
            (folder / "worker.log").open("wb") as log,
            process_tree(worker, env, cwd=ROOT, stdout=log, stderr=log),
        ):
            seconds, files = [], [_file_times(data)]
            for _ in range(2):
                run = prefect.run("pipeline/example-pipeline", recipe=value)
                _wait_for_completion(prefect, run)
                states = prefect.get(f"/flow_run_states/?flow_run_id={run}")
                times = {item["type"]: datetime.fromisoformat(item["timestamp"]) for item in states}
                seconds.append((times["COMPLETED"] - times["PENDING"]).total_seconds())
                files.append(_file_times(data))
    *_, before, after = files
    yield Figure("scheduled run with nothing to do: wall time", seconds[-1], "s", 15.0)
    written = [path for path, changed in after.items() if before.get(path) != changed]
    records = [path for path in written if path.parent.parent.name == "runs"]
    yield Figure("... files written, besides its run record", len(written) - len(records), "", 0.0)


def overhead(folder: Path) -> Iterator[Figure]:
    """The quickstart as a run and as plain functions, both in an empty store.

    Its model is trained for a fraction of the steps: two trainings of the whole length differ by more than what
    is measured. So short a training need not pass the gates. The ceiling is a share of the whole quickstart,
    whose other steps would take as long as these.
    """
    inputs, _ = fetch_quickstart()
    value = yaml.safe_load(QUICKSTART.read_text())
    value["train"][0]["data"]["train_tokens"] //= SHORTER
    value["release"]["gates"] = ["removal.debts none"]
    recipe_path = str(write_recipe(folder / "quickstart.yaml", value))
    with serve_site(inputs / "site", free_port()) as url:
        env = environment(folder / "home", GRISTMILL_QUICKSTART_URL=url)
        plain = 0.0
        for name in ("warm", "plain"):  # the first time compiles kernels
            storage = folder / name
            command = [sys.executable, "-m", "benchmarks.ops_plain", recipe_path, str(storage)]
            env["GRISTMILL_CACHE"] = str(make_cache(folder / f"cache-{name}", "quickstart"))
            plain = float(_check_call(command, env).split()[-1])
        env["GRISTMILL_CACHE"] = str(make_cache(folder / "cache-run", "quickstart"))
        start = time.monotonic()
        command = [str(GRISTMILL), "run", recipe_path, "--storage", str(folder / "run")]
        _check_call(command, env)
        seconds = time.monotonic() - start
    [manifest] = (folder / "plain").glob(f"train/*/{MANIFEST}")
    stats = open_dataset(Storage(str(manifest.parent))).stats
    whole = plain + (SHORTER - 1) * stats["tokens"] / stats["tokens_per_second"]
    yield Figure("quickstart as plain functions: wall time", whole, "s")
    ceiling = max(15.0, 0.1 * whole)
    yield Figure("quickstart: orchestration (run, less that)", seconds - plain, "s", ceiling)


def parts(_folder: Path) -> Iterator[Figure]:
    """Steps of many parts that do nothing: this process is client and scheduler.

    What it holds for the parts on their way is the same for any number of them, so the memory per part is
    what a step of three times as many parts holds more at its peak.
    """
    own = psutil.Process()
    peaks: list[int] = []
    with DaskCluster(ClusterConfig.model_validate({"workers": 2})) as cluster:
        for _ in cluster.map(do_nothing, [(index,) for index in range(1_000)]):
            pass  # imports, and buffers that stay
        for number in (PARTS, 3 * PARTS):
            payloads = [(index,) for index in range(number)]
            memory, cpu, start = own.memory_info().rss, _cpu(own), time.monotonic()
            peaks.append(memory)
            for finished, _ in enumerate(cluster.map(do_nothing, payloads)):
                if finished % 100 == 0:
                    peaks[-1] = max(peaks[-1], own.memory_info().rss)
            if number == PARTS:
                seconds, cpu = time.monotonic() - start, _cpu(own) - cpu
                yield Figure(f"{PARTS} parts: wall time per part", seconds / PARTS * 1000, "ms")
                yield Figure("... CPU of the scheduler per part", cpu / PARTS * 1000, "ms", 5.0)
    per_part = (peaks[1] - peaks[0]) / (2 * PARTS)
    yield Figure("... memory of the driver per part", per_part, "bytes", 1024.0)


def interface(folder: Path) -> Iterator[Figure]:
    """What a Prefect server on SQLite shows of a step of many parts, and whether it got all events of it."""
    (folder / "in").mkdir()
    for number, text in zip(range(PARTS), cycle(docstrings()), strict=False):
        write_jsonl(folder / "in" / f"{number:05}.jsonl", [_shuffled(text, number)])
    value = recipe(folder / "data", folder / "in", cluster={"workers": 2})
    value["sources"][0]["paths"] = [f"{folder}/in/*.jsonl"]
    path = write_recipe(folder / "parts.yaml", value)
    with prefect_server(folder) as prefect:
        start = time.monotonic()
        _check_call([str(GRISTMILL), "run", str(path), "--until", "acquire"], prefect.env)
        yield Figure(f"run of one step of {PARTS} parts: wall time", time.monotonic() - start, "s")
        end = time.monotonic() + SETTLE_S
        while (missing := _missing_in_ui(prefect)) and time.monotonic() < end:
            time.sleep(1)
    for what in sorted(missing):
        print(f"the Prefect server lacks: {what}", file=sys.stderr)
    yield Figure("... states, artifacts and events that its UI lacks", len(missing), "", 0.0)


def _missing_in_ui(prefect: Prefect) -> set[str]:
    """Return what a server does not show of the run of ``interface``, its only one."""
    states = {
        f"{kind} run {item['state_name']}"
        for kind in ("flow", "task")
        for item in prefect.post(f"/{kind}_runs/filter")
    }
    artifacts = {
        f"{item['key']}: {item['description']}" for item in prefect.post("/artifacts/filter")
    }
    # One task run and its events, however many parts it has.
    sent = {f"prefect.task-run.{name}" for name in ("Pending", "Running", "Completed")}
    sent |= {"gristmill.segment.acquired", "prefect.asset.materialization.succeeded"}
    chosen = {"event": {"name": sorted(sent)}}
    stored = {item["event"] for item in prefect.post("/events/filter", filter=chosen)["events"]}
    missing = {"flow run Completed", "task run Completed"} ^ states
    bar = f"small-progress-acquire-dump: acquire dump: {PARTS:,} "
    if not any(text.startswith(bar) for text in artifacts):
        missing.add(bar)
    return missing | (sent - stored)


def idle(_folder: Path) -> Iterator[Figure]:
    """Workers with nothing to do, as while a model trains."""
    own = psutil.Process()
    with DaskCluster(ClusterConfig.model_validate({"workers": 2})) as cluster:
        list(cluster.map(do_nothing, [(index,) for index in range(100)]))
        time.sleep(5)
        workers = own.children(recursive=True)
        before = [_cpu(process) for process in (*workers, own)]
        start = time.monotonic()
        time.sleep(IDLE_S)
        seconds = time.monotonic() - start
        after = [_cpu(process) for process in (*workers, own)]
    used = [(end - begin) / seconds * 100 for begin, end in zip(before, after, strict=True)]
    yield Figure("two idle workers together", sum(used[:-1]), "% of a core", 1.0)
    yield Figure("... the driver, with scheduler and nannies", used[-1], "% of a core")


def requests(folder: Path) -> Iterator[Figure]:
    """Requests to S3 of a run up to the tokens, for two sizes of input."""
    texts = list(docstrings())
    counts: list[tuple[int, int]] = []
    with seaweed(folder / "weed") as s3, s3_proxy(s3.env["AWS_ENDPOINT_URL"]) as proxy:
        env = environment(folder / "home", **{**s3.env, "AWS_ENDPOINT_URL": proxy.url})
        for number, copies in enumerate((4, 40)):
            corpus = folder / f"in-{number}"
            corpus.mkdir()
            rows = [_shuffled(text, copy) for copy in range(copies) for text in texts]
            size = write_jsonl(corpus / "a.jsonl", rows).stat().st_size
            value = recipe(f"s3://{s3.bucket}/{number}", corpus, cluster={"workers": 2})
            value["sources"][0]["paths"] = [f"{corpus}/*.jsonl"]
            path = write_recipe(folder / f"{number}.yaml", value)
            before = proxy.requests.total()
            _check_call([str(GRISTMILL), "run", str(path)], env)
            counts.append((size, proxy.requests.total() - before))
            yield Figure(f"S3: requests for {size / 1e6:.1f} MB of input", counts[-1][1], "")
    (small, few), (large, many) = counts
    yield Figure("S3: further requests per GB of input", (many - few) / (large - small) * 1e9, "")


def _shuffled(text: str, seed: int) -> str:
    """Return the words of a text in another order, so that it is no duplicate."""
    words = text.split()
    return " ".join(random.Random(seed).sample(words, len(words)))


MEASUREMENTS: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "fixed": fixed_cost,
    "scheduled": scheduled,
    "parts": parts,
    "interface": interface,
    "idle": idle,
    "requests": requests,
    "overhead": overhead,
}


def main() -> int:
    """Run the measurements; 1 if a figure is above its ceiling."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}")
    names = parser.parse_args().names or list(MEASUREMENTS)
    if unknown := set(names) - MEASUREMENTS.keys():
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    missed = 0
    with guarded():
        for name in names:
            with _temporary_folder() as folder:
                for figure in MEASUREMENTS[name](folder):
                    print(figure, flush=True)
                    missed += not figure.passed
    return 1 if missed else 0


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-ops-") as name:
        yield Path(name)


def _wait_for_completion(prefect: Prefect, run: str) -> None:
    """Wait for the end of a run; raises ``RuntimeError`` unless it completed."""
    ends = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    wait_for(lambda: prefect.state(run) in ends)
    if prefect.state(run) != "COMPLETED":
        raise RuntimeError(f"the run ended as {prefect.state(run)}")


def _check_call(command: list[str], env: dict[str, str]) -> str:
    result = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.returncode}\n{result.stderr[-3000:]}")
    return result.stdout


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _cpu_of_children() -> float:
    """CPU seconds of all children of this process that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _local_server(home: Path) -> psutil.Process:
    return psutil.Process(json.loads((home / "gristmill-server.json").read_text())["pid"])


def _server_cpu(home: Path) -> float:
    """CPU seconds of the server that stays, so far; 0 without one."""
    try:
        return _cpu(_local_server(home))
    except FileNotFoundError:
        return 0.0


def _file_times(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


if __name__ == "__main__":
    sys.exit(main())
