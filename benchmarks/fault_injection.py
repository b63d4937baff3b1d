"""Kills whatever a training stands on, whenever it hurts, and looks what becomes of it.

Trains one small model over and over (two processes, 40 steps, a checkpoint every 10), each time with
one SIGKILL: of the first training process, which writes the marker, or of the last; of torchrun, of
the process that runs the flow, of the S3 server that holds the checkpoints; during a step, among a
checkpoint's shards, between its shards and its marker. Nobody helps: the flow's process is started
again as a scheduler would, the server as its supervisor would. Every run must end with the weights of
the run that was left alone (sha256 of ``model.safetensors``), and none may go on from a checkpoint
that was cut off. By default all of that with DDP in fp32, and a row each with FSDP2 and with fp16.

    python -m benchmarks.fault_injection [--store local|s3] [--only VICTIM,MOMENT]
        [--parallel ddp|fsdp] [--precision fp32|fp16|bf16]
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
MOMENTS = ("step", "shards", "marker")
EXTRA_CASES = (("rank-1", "shards", "fsdp", "fp32"), ("rank-1", "shards", "ddp", "fp16"))
KILL_STEP, CHECKPOINT_INTERVAL = (
    20,
    10,
)  # the checkpoint that is cut off; "step": three steps after it
SERVER_DOWNTIME_S = 3.0  # seconds until a server's supervisor has it running again
MAX_FLOW_RUNS = 3  # at most, as a schedule would start them


@dataclass
class Case:
    """One run with one kill.

    Attributes:
        killed: whether the kill was done.
        interrupted_step: steps done at the checkpoint that was cut off.
        runs: times that the flow's process was started.
        resumed: steps done where each attempt began.
        sha: of the model's weights; ``None`` if the run did not finish.
    """

    victim: str
    moment: str
    store: str
    parallel: str = "ddp"
    precision: str = "fp32"
    killed: bool = False
    interrupted_step: int | None = None
    runs: int = 0
    resumed: list[int] = field(default_factory=list)
    sha: str | None = None
    seconds: float = 0.0
    error_output: str = ""

    def is_correct(self, reference_digest: str) -> bool:
        """Whether it ended as it must."""
        # A checkpoint that was cut off must not be gone on from; whatever lies before it may.
        later = self.resumed[1:]
        read_half = self.interrupted_step is not None and any(
            step >= self.interrupted_step for step in later[:1]
        )
        restarted = self.victim in ("none", "server") or bool(later)
        return self.sha == reference_digest and not read_half and restarted


def flow(store: Path, url: str, parallel: str, precision: str) -> None:
    """What a flow's task does, in a process of its own; prints steps, then the weights' digest."""
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

    def command(*given: object, **named: object) -> list[str]:
        return [
            "benchmarks.fault_injection_worker" if word == "lm.train.worker" else word
            for word in real(*given, **named)  # type: ignore[arg-type]
        ]

    torchrun.command = command
    tokens = token_shards(store)
    config = tiny(
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
    made = task.build(ctx, spec, config=config, tokens=tokens)
    attempts = made.read("logs/attempts.jsonl").decode().splitlines()
    digest = hashlib.sha256(made.read("model.safetensors")).hexdigest()
    print(json.dumps({"sha": digest, "resumed": [json.loads(x)["step"] for x in attempts]}))


class Server:
    """The S3 server and its supervisor."""

    def __init__(self, weed: Weed | None) -> None:
        """Start it if there is to be one."""
        self._weed, self._stack = weed, ExitStack()
        self.env: dict[str, str] = {}
        if weed:
            s3: S3 = self._stack.enter_context(weed.running())
            self.env = dict(s3.env)

    def kill(self) -> None:
        """SIGKILL; it is back after a while."""
        self._stack.close()
        weed = self._weed
        assert weed is not None

        def start() -> None:
            time.sleep(SERVER_DOWNTIME_S)
            self._stack.enter_context(weed.running())

        self._back = threading.Thread(target=start)
        self._back.start()

    def stop(self) -> None:
        """For good."""
        if hasattr(self, "_back"):
            self._back.join()
        self._stack.close()


def run(case: Case, folder: Path, server: Server) -> None:
    """Run a case to its end."""
    began = time.monotonic()
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
    command += [case.parallel, case.precision]
    folder.mkdir(parents=True, exist_ok=True)
    if case.victim == "none":
        flag.touch()  # nothing is slow
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
                told = json.loads(line)
                case.sha, case.resumed = told["sha"], told["resumed"]
            elif line == f"step {KILL_STEP + 3}" and case.moment == "step" and not case.killed:
                kill_victim(case, process, server)
        process.stdout.close()
        process.wait()
        watcher.join()
        if case.sha is None:
            case.error_output = log.read_text(errors="replace")[-500:]
    case.seconds = time.monotonic() - began


def kill_at_checkpoint(
    case: Case, flag: Path, process: "subprocess.Popen[bytes]", server: Server
) -> None:
    """Wait for a checkpoint's moment, and strike."""
    while process.poll() is None and not case.killed and case.victim != "none":
        if case.moment != "step" and flag.exists():
            time.sleep(0.1)
            case.interrupted_step = int(flag.read_text())
            kill_victim(case, process, server)
        time.sleep(0.01)


def kill_victim(case: Case, process: "subprocess.Popen[bytes]", server: Server) -> None:
    """SIGKILL to the victim."""
    case.killed = case.victim != "none"
    if case.victim == "server":
        server.kill()
    elif case.victim == "flow":
        process.kill()
    else:
        os.kill(find_pid(process.pid, case.victim), signal.SIGKILL)


def find_pid(root: int, name: str) -> int:
    """The process id of ``torchrun`` or of ``rank-N``, below a process."""
    for process in psutil.Process(root).children(recursive=True):
        line = process.cmdline()
        if "benchmarks.fault_injection_worker" in line:
            found = "torchrun" if "--standalone" in line else f"rank-{process.environ()['RANK']}"
            if found == name:
                return process.pid
    raise AssertionError(f"there is no {name}")


def select_cases(options: argparse.Namespace) -> list[Case]:
    """The cases that are asked for."""
    stores = ("local", "s3") if options.store == "both" else (options.store,)
    parallel, precision = options.parallel or "ddp", options.precision or "fp32"
    found = [
        Case(victim, moment, store, parallel, precision)
        for store in stores
        for victim in VICTIMS
        for moment in MOMENTS
        if victim != "server" or store == "s3"
    ]
    if options.only:
        return [case for case in found if f"{case.victim},{case.moment}" == options.only]
    # During a step all processes are alike, and only a server minds where checkpoints lie.
    found = [
        case
        for case in found
        if case.moment != "step"
        or case.victim == "server"
        or (case.victim != "rank-0" and case.store == stores[0])
    ]
    if (options.parallel, options.precision) == (None, None):
        found += [Case(v, m, stores[0], spread, of) for v, m, spread, of in EXTRA_CASES]
    return found


def reference_digests(cases: Sequence[Case], scratch: Path) -> dict[tuple[str, str], str]:
    """The weights of runs that are left alone, for each way in which one of the cases trains."""
    found = {}
    for how in dict.fromkeys((case.parallel, case.precision) for case in cases):
        alone = Case("none", "", "local", *how)
        run(alone, scratch / f"undisturbed-{'-'.join(how)}", Server(None))
        if alone.sha is None:
            raise SystemExit(alone.error_output)
        found[how] = alone.sha
        print(f"undisturbed, {' '.join(how)}: {alone.sha[:16]}, {alone.seconds:.0f} s", flush=True)
    return found


def main() -> int:
    """Run the matrix, print it; 1 if a run did not end as it must."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--flow", nargs=4, help=argparse.SUPPRESS)
    options.add_argument("--store", choices=("local", "s3", "both"), default="both")
    options.add_argument("--only", help="VICTIM,MOMENT")
    options.add_argument("--parallel", choices=("ddp", "fsdp"))
    options.add_argument("--precision", choices=("fp32", "fp16", "bf16"))
    given = options.parse_args()
    if given.flow:
        flow(Path(given.flow[0]), *given.flow[1:])
        return 0
    cases = select_cases(given)
    if not cases:
        options.error(f"--only: {given.only} is none of {', '.join(VICTIMS)} with {MOMENTS}")
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="fault-injection-"))
    bad = 0
    try:
        left_alone = reference_digests(cases, scratch)
        print(
            f"{'killed':9} {'during':7} {'on':6} {'trained':9} {'weights':8} {'flow runs':10} "
            f"{'attempts from step':20} s"
        )
        for number, case in enumerate(cases):
            folder = scratch / f"case-{number}"
            server = Server(weed(folder / "weed") if case.store == "s3" else None)
            try:
                run(case, folder, server)
            finally:
                server.stop()
            expected = left_alone[case.parallel, case.precision]
            good = case.killed and case.is_correct(expected)
            bad += not good
            same = "same" if case.sha == expected else "OTHER" if case.sha else "NONE"
            came = ", ".join(map(str, case.resumed))
            print(
                f"{case.victim:9} {case.moment:7} {case.store:6} {case.parallel:4} "
                f"{case.precision:4} {same:8} {case.runs:<10} {came:20} {case.seconds:.0f}"
                f"{'' if good else '  FAILED ' + case.error_output}",
                flush=True,
            )
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    told = "all as they must be" if not bad else f"{bad} of {len(cases)} are not"
    print(f"{told}; {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
