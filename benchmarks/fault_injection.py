"""Fault injection: kill every part of a training at every critical moment, and compare the weights.

Trains one small model many times (two processes, 40 steps, a checkpoint every 10), each time with
one SIGKILL: of the first training process, which writes the marker, or of the last; of torchrun, of
the process that runs the flow, or of the S3 server that holds the checkpoints; during a step, while
shards are written, or between shards and marker. The flow's process is started again as a scheduler
would, the server as its supervisor would. Every run must end with the weights of an uninterrupted run
(sha256 of ``model.safetensors``), and none may resume from an incomplete checkpoint. By default all
cases run a decoder with DDP in fp32, and one case each FSDP2, fp16, and every other family. Families that are
counted on the cluster, or train there (``fault_injection_counted``), lose the process that runs the flow, or a
worker, in the middle of their pieces; a flow that is started again must find finished ones.

    python -m benchmarks.fault_injection [--store local|s3] [--only VICTIM,MOMENT]
        [--parallel ddp|fsdp] [--precision fp32|fp16|bf16] [--family decoder|rnn|lstm|lstm-carried|gru|cnn|encoder|seq2seq|seq2seq-gru|ngram|word2vec|glove]
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from infra.store.cache_dir import ENV_VAR  # noqa: E402
from tests.servers import S3, Weed, weed  # noqa: E402

VICTIMS = ("rank-0", "rank-1", "torchrun", "flow", "server")
COUNTED_VICTIMS = ("flow", "worker")
MOMENTS = ("step", "shards", "marker")
# Families by name, and settings that are killed in rows of their own.
PLAIN_FAMILIES = ("decoder", "rnn", "lstm", "gru", "cnn", "encoder", "seq2seq")
VARIANTS: dict[str, dict[str, object]] = {
    "lstm-carried": {"family": "lstm", "carry_state": True},
    "seq2seq-gru": {"family": "seq2seq", "architecture": "gru"},
}
FAMILIES = (*PLAIN_FAMILIES, *VARIANTS)
COUNTED = ("ngram", "word2vec", "glove")
ATTENDING = ("decoder", "encoder", "seq2seq")  # families whose model section has num_heads
EXTRA_CASES = (
    ("rank-1", "shards", "fsdp", "fp32", "decoder"),
    ("rank-1", "shards", "ddp", "fp16", "decoder"),
    *(("rank-1", "shards", "ddp", "fp32", family) for family in FAMILIES[1:]),
    *((victim, "step", "ddp", "fp32", family) for family in COUNTED for victim in COUNTED_VICTIMS),
)
# The step of the checkpoint that is interrupted; for "step", the kill is three steps after it.
KILL_STEP, CHECKPOINT_INTERVAL = 20, 10
SERVER_DOWNTIME_S = 3.0  # until a server's supervisor has started it again
MAX_FLOW_RUNS = 3  # as a scheduler would start them


@dataclass
class Case:
    """One run with one kill.

    Attributes:
        killed: whether the kill was done.
        interrupted_step: steps done at the checkpoint that was interrupted.
        runs: times that the flow's process was started.
        resumed: steps done at the start of each attempt.
        sha: of the model's weights; ``None`` if the run did not finish.
    """

    victim: str
    moment: str
    store: str
    parallel: str = "ddp"
    precision: str = "fp32"
    family: str = "decoder"
    killed: bool = False
    interrupted_step: int | None = None
    runs: int = 0
    resumed: list[int] = field(default_factory=list)
    sha: str | None = None
    seconds: float = 0.0
    error_output: str = ""

    def is_correct(self, reference_digest: str) -> bool:
        """Return whether it ended as it must."""
        # It must not resume from the interrupted checkpoint, but may from any before it.
        later = self.resumed[1:]
        read_incomplete = self.interrupted_step is not None and any(
            step >= self.interrupted_step for step in later[:1]
        )
        restarted = self.victim in ("none", "server", "worker") or bool(later)
        if self.family in COUNTED and later and not later[0]:
            return False  # it began anew
        return self.sha == reference_digest and not read_incomplete and restarted


def flow(store: Path, url: str, parallel: str, precision: str, family: str) -> None:
    """Run the stage in its own process; print its steps, then the weights' digest."""
    from infra.compute.progress import Progress
    from lm.launch import torchrun
    from tasks.train import task
    from tests.lm.corpora import context, tiny, token_shards

    class Printer:
        def update(self, progress: Progress) -> None:
            sys.stdout.write(f"step {progress.completed}\n")
            sys.stdout.flush()

        def link(self, name: str, url: str) -> None:
            pass

    real = torchrun.command

    def command(*args: object, **kwargs: object) -> list[str]:
        return [
            "benchmarks.fault_injection_worker" if word == "lm.train.worker" else word
            for word in real(*args, **kwargs)  # type: ignore[arg-type]
        ]

    torchrun.command = command
    tokens = token_shards(store)
    config = tiny(
        **({} if family == "decoder" else {"num_kv_heads": None}),
        **({} if family in ATTENDING else {"num_heads": None}),
        **VARIANTS.get(family, {"family": family}),
        num_processes=2,
        data_parallel=parallel,
        precision=precision,
        train_tokens=40 * 128,
        checkpoint_interval=CHECKPOINT_INTERVAL,
        checkpoint_url=url or None,
        max_restarts=2,
        storage_timeout=60,
    )
    ctx = context(store, Printer())
    spec = task.spec(ctx, config=config, tokens=tokens)
    model = task.build(ctx, spec, config=config, tokens=tokens)
    attempts = model.read("logs/attempts.jsonl").decode().splitlines()
    digest = hashlib.sha256(model.read("model.safetensors")).hexdigest()
    print(json.dumps({"sha": digest, "resumed": [json.loads(x)["step"] for x in attempts]}))


class Server:
    """The S3 server and its supervisor."""

    def __init__(self, weed: Weed | None) -> None:
        """Start the server, if there is one."""
        self._weed, self._stack = weed, ExitStack()
        self.env: dict[str, str] = {}
        if weed:
            s3: S3 = self._stack.enter_context(weed.running())
            self.env = dict(s3.env)

    def kill(self) -> None:
        """Kill the server; start it again after ``SERVER_DOWNTIME_S``."""
        self._stack.close()
        weed = self._weed
        assert weed is not None

        def start() -> None:
            time.sleep(SERVER_DOWNTIME_S)
            self._stack.enter_context(weed.running())

        self._back = threading.Thread(target=start)
        self._back.start()

    def stop(self) -> None:
        """Stop the server."""
        if hasattr(self, "_back"):
            self._back.join()
        self._stack.close()


def run(case: Case, folder: Path, server: Server) -> None:
    """Run a case to its end."""
    start = time.monotonic()
    flag = folder / "flag"
    env = {
        **os.environ,
        **server.env,
        ENV_VAR: str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "KILL_AT": case.moment,
        "KILL_STEP": str(KILL_STEP),
        "KILL_FLAG": str(flag),
    }
    url = f"s3://corpus/{folder.name}" if case.store == "s3" else ""
    command = [
        sys.executable,
        "-m",
        "benchmarks.fault_injection",
        "--flow",
        str(folder / "store"),
        url,
    ]
    command += [case.parallel, case.precision, case.family]
    if case.family in COUNTED:
        module = "benchmarks.fault_injection_counted"
        command = [sys.executable, "-m", module, str(folder / "store"), case.family]
    folder.mkdir(parents=True, exist_ok=True)
    if case.victim == "none":
        flag.touch()  # the worker does not wait
    while case.runs < MAX_FLOW_RUNS and case.sha is None:
        case.runs += 1
        log = folder / f"run-{case.runs}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors
            )
        watcher = threading.Thread(target=kill_at_checkpoint, args=(case, flag, process, server))
        watcher.start()
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode().strip()
            if line.startswith("{"):
                result = json.loads(line)
                case.sha, case.resumed = result["sha"], result["resumed"]
            elif line == f"step {KILL_STEP + 3}" and case.moment == "step" and not case.killed:
                kill_victim(case, process, server)
        process.stdout.close()
        process.wait()
        watcher.join()
        if case.sha is None:
            case.error_output = log.read_text(errors="replace")[-500:]
    case.seconds = time.monotonic() - start


def kill_at_checkpoint(
    case: Case, flag: Path, process: "subprocess.Popen[bytes]", server: Server
) -> None:
    """Kill the victim when a checkpoint is at the case's moment."""
    while process.poll() is None and not case.killed and case.victim != "none":
        if case.moment != "step" and flag.exists():
            time.sleep(0.1)
            case.interrupted_step = int(flag.read_text())
            kill_victim(case, process, server)
        time.sleep(0.01)


def kill_victim(case: Case, process: "subprocess.Popen[bytes]", server: Server) -> None:
    """Send SIGKILL to the victim."""
    case.killed = case.victim != "none"
    if case.victim == "server":
        server.kill()
    elif case.victim == "flow":
        process.kill()
    elif case.victim == "worker":
        os.kill(find_worker(process.pid), signal.SIGKILL)
    else:
        os.kill(find_pid(process.pid, case.victim), signal.SIGKILL)


def find_worker(root: int) -> int:
    """Return the process id of the Dask worker below a process that has worked most."""
    workers = [
        process
        for process in psutil.Process(root).children(recursive=True)
        if any("spawn_main" in word for word in process.cmdline())
    ]
    return max(workers, key=lambda process: process.cpu_times().user).pid


def find_pid(root: int, name: str) -> int:
    """Return the process id of ``torchrun`` or of ``rank-N`` below a process."""
    for process in psutil.Process(root).children(recursive=True):
        line = process.cmdline()
        if "benchmarks.fault_injection_worker" in line:
            process_name = (
                "torchrun" if "--standalone" in line else f"rank-{process.environ()['RANK']}"
            )
            if process_name == name:
                return process.pid
    raise AssertionError(f"no process {name}")


def select_cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases that the options select."""
    stores = ("local", "s3") if options.store == "both" else (options.store,)
    mode = options.parallel or "ddp", options.precision or "fp32", options.family or "decoder"
    cases = [
        Case(victim, moment, store, *mode)
        for store in stores
        for victim in VICTIMS
        for moment in MOMENTS
        if victim != "server" or store == "s3"
    ]
    if options.family in COUNTED:
        cases = [Case(victim, "step", stores[0], *mode) for victim in COUNTED_VICTIMS]
    if options.only:
        return [case for case in cases if f"{case.victim},{case.moment}" == options.only]
    if options.family in COUNTED:
        return cases
    # During a step all processes are equal, and only for a server the place of checkpoints matters.
    cases = [
        case
        for case in cases
        if case.moment != "step"
        or case.victim == "server"
        or (case.victim != "rank-0" and case.store == stores[0])
    ]
    if (options.parallel, options.precision, options.family) == (None, None, None):
        cases += [
            Case(victim, moment, stores[0], wrapper, dtype, family)
            for victim, moment, wrapper, dtype, family in EXTRA_CASES
        ]
    return cases


def reference_digests(cases: Sequence[Case], scratch: Path) -> dict[tuple[str, str, str], str]:
    """Return the weights of uninterrupted runs, by parallelism, precision and family."""
    digests = {}
    for mode in dict.fromkeys((case.parallel, case.precision, case.family) for case in cases):
        alone = Case("none", "", "local", *mode)
        run(alone, scratch / f"uninterrupted-{'-'.join(mode)}", Server(None))
        if alone.sha is None:
            raise SystemExit(alone.error_output)
        digests[mode] = alone.sha
        print(
            f"uninterrupted, {' '.join(mode)}: {alone.sha[:16]}, {alone.seconds:.0f} s", flush=True
        )
    return digests


def main() -> int:
    """Run and print all cases; return 1 if a run did not end as it must."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--flow", nargs=5, help=argparse.SUPPRESS)
    options.add_argument("--store", choices=("local", "s3", "both"), default="both")
    options.add_argument("--only", help="VICTIM,MOMENT")
    options.add_argument("--parallel", choices=("ddp", "fsdp"))
    options.add_argument("--precision", choices=("fp32", "fp16", "bf16"))
    options.add_argument("--family", choices=(*FAMILIES, *COUNTED))
    given = options.parse_args()
    if given.flow:
        flow(Path(given.flow[0]), *given.flow[1:])
        return 0
    cases = select_cases(given)
    if not cases:
        options.error(f"--only: {given.only} is not one of {', '.join(VICTIMS)} with {MOMENTS}")
    start = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="fault-injection-"))
    failed = 0
    try:
        references = reference_digests(cases, scratch)
        print(
            f"{'killed':9} {'during':7} {'on':6} {'trained':22} {'weights':8} {'flow runs':10} "
            f"{'attempts from step':20} s"
        )
        for number, case in enumerate(cases):
            folder = scratch / f"case-{number}"
            server = Server(weed(folder / "weed") if case.store == "s3" else None)
            try:
                run(case, folder, server)
            finally:
                server.stop()
            expected = references[case.parallel, case.precision, case.family]
            good = case.killed and case.is_correct(expected)
            failed += not good
            same = "same" if case.sha == expected else "OTHER" if case.sha else "NONE"
            attempts = ", ".join(map(str, case.resumed))
            print(
                f"{case.victim:9} {case.moment:7} {case.store:6} {case.parallel:4} "
                f"{case.precision:4} {case.family:12} {same:8} {case.runs:<10} {attempts:20} {case.seconds:.0f}"
                f"{'' if good else '  FAILED ' + case.error_output}",
                flush=True,
            )
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    verdict = "all passed" if not failed else f"{failed} of {len(cases)} failed"
    print(f"{verdict}; {time.monotonic() - start:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
