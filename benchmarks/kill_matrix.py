"""Kills whatever a training stands on, whenever it hurts, and looks what becomes of it.

Trains one small model over and over (two processes, 40 steps, a checkpoint every 10), each time with
one SIGKILL: of a training process, of torchrun, of the process that runs the flow, of the S3 server
that holds the checkpoints; during a step, among a checkpoint's shards, between its shards and its
marker. Nobody helps: the flow's process is started again as a scheduler would, the server as its
supervisor would. Every run must end with the weights of the run that was left alone (sha256 of
``model.safetensors``), and none may go on from a checkpoint that was cut off.

    python -m benchmarks.kill_matrix [--store local|s3] [--only VICTIM,MOMENT]
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
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from infra.cache import VARIABLE  # noqa: E402
from tests.servers import S3, Weed, weed  # noqa: E402

VICTIMS = ("rank", "torchrun", "flow", "server")
MOMENTS = ("step", "shards", "marker")
STEP, EVERY = 20, 10  # the checkpoint that is cut off; "step": three steps after it
AWAY = 3.0  # seconds until a server's supervisor has it running again
FLOW_RUNS = 3  # at most, as a schedule would start them


@dataclass
class Case:
    """One run with one kill.

    Attributes:
        struck: whether the kill was done.
        cut: steps done at the checkpoint that was cut off.
        runs: times that the flow's process was started.
        resumed: steps done where each attempt began.
        sha: of the model's weights; ``None`` if the run did not finish.
    """

    victim: str
    moment: str
    store: str
    struck: bool = False
    cut: int | None = None
    runs: int = 0
    resumed: list[int] = field(default_factory=list)
    sha: str | None = None
    seconds: float = 0.0
    said: str = ""

    def sound(self, undisturbed: str) -> bool:
        """Whether it ended as it must."""
        # A checkpoint that was cut off must not be gone on from; whatever lies before it may.
        later = self.resumed[1:]
        read_half = self.cut is not None and any(step >= self.cut for step in later[:1])
        restarted = self.victim in ("none", "server") or bool(later)
        return self.sha == undisturbed and not read_half and restarted


def flow(store: Path, url: str) -> None:
    """What a flow's task does, in a process of its own; prints steps, then the weights' digest."""
    from infra.progress import Progress
    from tasks.train import launch, task
    from tests.train.corpora import context, tiny, token_shards

    class Printer:
        def update(self, progress: Progress) -> None:
            sys.stdout.write(f"step {progress.done}\n")
            sys.stdout.flush()

        def link(self, name: str, url: str) -> None:
            pass

    real = launch.command

    def command(*given: object, **named: object) -> list[str]:
        return [
            "benchmarks.kill_worker" if word == "tasks.train.worker" else word
            for word in real(*given, **named)  # type: ignore[arg-type]
        ]

    launch.command = command
    tokens = token_shards(store)
    config = tiny(
        processes=2,
        tokens=40 * 128,
        checkpoint_every=EVERY,
        checkpoints=url or None,
        restarts=2,
        store_patience=60,
    )
    ctx = context(store, Printer())
    spec = task.spec(ctx, config=config, tokens=tokens)
    made = task.build(ctx, spec, config=config, tokens=tokens)
    attempts = made.read("records/attempts.jsonl").decode().splitlines()
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
            time.sleep(AWAY)
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
        VARIABLE: str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "KILL_AT": case.moment,
        "KILL_STEP": str(STEP),
        "KILL_FLAG": str(flag),
    }
    url = f"s3://corpus/{folder.name}" if case.store == "s3" else ""
    command = [sys.executable, "-m", "benchmarks.kill_matrix", "--flow", str(folder / "store"), url]
    folder.mkdir(parents=True, exist_ok=True)
    if case.victim == "none":
        flag.touch()  # nothing is slow
    while case.runs < FLOW_RUNS and case.sha is None:
        case.runs += 1
        log = folder / f"run-{case.runs}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors
            )
        watcher = threading.Thread(target=strike_at, args=(case, flag, process, server))
        watcher.start()
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode().strip()
            if line.startswith("{"):
                told = json.loads(line)
                case.sha, case.resumed = told["sha"], told["resumed"]
            elif line == f"step {STEP + 3}" and case.moment == "step" and not case.struck:
                strike(case, process, server)
        process.stdout.close()
        process.wait()
        watcher.join()
        if case.sha is None:
            case.said = log.read_text(errors="replace")[-500:]
    case.seconds = time.monotonic() - began


def strike_at(case: Case, flag: Path, process: "subprocess.Popen[bytes]", server: Server) -> None:
    """Wait for a checkpoint's moment, and strike."""
    while process.poll() is None and not case.struck and case.victim != "none":
        if case.moment != "step" and flag.exists():
            time.sleep(0.1)
            case.cut = int(flag.read_text())
            strike(case, process, server)
        time.sleep(0.01)


def strike(case: Case, process: "subprocess.Popen[bytes]", server: Server) -> None:
    """SIGKILL to the victim."""
    case.struck = case.victim != "none"
    if case.victim == "server":
        server.kill()
    elif case.victim == "flow":
        process.kill()
    elif case.victim in ("torchrun", "rank"):
        found = list(family(process.pid, ranks=case.victim == "rank"))
        os.kill(found[-1].pid, signal.SIGKILL)


def family(root: int, *, ranks: bool) -> Iterator[psutil.Process]:
    """The training processes below a process, or their torchrun."""
    for process in psutil.Process(root).children(recursive=True):
        line = process.cmdline()
        if "benchmarks.kill_worker" in line and ("--standalone" in line) != ranks:
            yield process


def main() -> int:
    """Run the matrix, print it; 1 if a run did not end as it must."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--flow", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--store", choices=("local", "s3", "both"), default="both")
    options.add_argument("--only", help="VICTIM,MOMENT")
    given = options.parse_args()
    if given.flow:
        flow(Path(given.flow[0]), given.flow[1])
        return 0
    stores = ("local", "s3") if given.store == "both" else (given.store,)
    cases = [
        Case(victim, moment, store)
        for store in stores
        for victim in VICTIMS
        for moment in MOMENTS
        if (victim != "server" or store == "s3") and given.only in (None, f"{victim},{moment}")
    ]
    scratch = Path(tempfile.mkdtemp(prefix="kill-matrix-"))
    bad = 0
    try:
        undisturbed = Case("none", "", "local")
        run(undisturbed, scratch / "undisturbed", Server(None))
        if undisturbed.sha is None:
            print(undisturbed.said)
            return 1
        print(f"undisturbed: {undisturbed.sha[:16]}, {undisturbed.seconds:.0f} s")
        print(
            f"{'killed':9} {'during':7} {'on':6} {'weights':8} {'flow runs':10} {'attempts from step':20} s"
        )
        for number, case in enumerate(cases):
            folder = scratch / f"case-{number}"
            server = Server(weed(folder / "weed") if case.store == "s3" else None)
            try:
                run(case, folder, server)
            finally:
                server.stop()
            good = case.struck and case.sound(undisturbed.sha)
            bad += not good
            same = "same" if case.sha == undisturbed.sha else "OTHER" if case.sha else "NONE"
            came = ", ".join(map(str, case.resumed))
            print(
                f"{case.victim:9} {case.moment:7} {case.store:6} {same:8} {case.runs:<10} "
                f"{came:20} {case.seconds:.0f}{'' if good else '  FAILED ' + case.said}",
                flush=True,
            )
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("all as they must be" if not bad else f"{bad} of {len(cases)} are not")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
