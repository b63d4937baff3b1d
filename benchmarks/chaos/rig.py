"""The servers that the cases share, the run that they disturb, and what is checked after each."""

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.deploy.stack.layout import BUCKET, DEFAULT_PORTS, MARKER, Layout, load_layout
from infra.deploy.stack.services import SERVICES
from infra.deploy.stack.supervisor import read_states
from infra.store.storage import Storage
from tests.caches import make_cache
from tests.e2e.command import GRISTMILL, environment, run_to_end, write_recipe
from tests.e2e.corpora import docstrings, recipe, write_jsonl
from tests.e2e.prefect_server import Prefect
from tests.e2e.seven_hosts import has_reached, pair_entry
from tests.limits import wait_for
from tests.processes import ROOT, TreeProcess, is_alive, process_tree
from tests.servers import free_port, s3_environment

RECIPE = "chaos"
NUM_FILES, DOCUMENTS = 6, 120
# Of a run: until it has ended in some way. A lost process is noticed after two minutes without a heartbeat.
END_LIMIT_S = 600.0
SETTLE_S = 30.0  # until what a run has left behind counts as left for ever
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
# Files of a store that say when and how often something ran.
VOLATILE = re.compile(r"(runs|reports)/|train/.*(/logs/|/manifest\.json$)")
# Files on this machine that are not a run's: locks that Dask keeps, the folders of a worker that is there.
FOREIGN = re.compile(
    r"tmp/dask-scratch-space(/(global|purge)\.lock)?$|s/prefect-worker/\d+(/runner_storage(/[\w-]+)?)?$"
)


@dataclass
class Outcome:
    """What became of a run with a fault.

    Attributes:
        state: how the run ended, in lower case.
        seconds: from the fault to the end of the run.
        next_run: how the next run of the recipe ended; empty if there was no need of one.
        problems: what is wrong; empty if the case is right.
    """

    state: str
    seconds: float
    next_run: str = ""
    problems: list[str] = field(default_factory=list)


class Rig:
    """A running stack, with a corpus, and the results of a run that nothing disturbed."""

    def __init__(self, folder: Path) -> None:
        """Lay out the folder; ``running`` starts the stack."""
        self.folder = folder
        self.temporary, self.cache = folder / "tmp", folder / "cache"
        for path in (self.temporary, folder / "in"):
            path.mkdir(parents=True)
        make_cache(self.cache)
        texts = docstrings()[:DOCUMENTS]
        for number in range(NUM_FILES):
            # Each file repeats a text of the one before: duplicates that cross files.
            rows = [*texts[number::NUM_FILES], texts[number - 1], b"{broken"]
            write_jsonl(folder / "in" / f"{number}.jsonl", rows)
        self.expected: dict[str, str] = {}
        self._residue: set[str] = set()

    @contextmanager
    def running(self) -> Iterator["Rig"]:
        """Start the stack; at the end, stop it."""
        ports = [f"{name}={free_port()}" for name in DEFAULT_PORTS]
        options = [item for port in ports for item in ("--port", port)]
        try:
            self._stack_command("up", *options)
            with s3_environment(self.env):
                yield self
        finally:
            self._stack_command("down")

    def _stack_command(self, name: str, *options: str) -> None:
        command = [sys.executable, "-m", "infra.deploy.stack", name]
        command += ["--folder", str(self.folder / "s"), *options]
        result = subprocess.run(
            command, cwd=ROOT, env=self.own_env, capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise RuntimeError(f"stack {name}: {result.stderr[-3000:]}")

    @property
    def own_env(self) -> dict[str, str]:
        """This process's environment with the rig's folders."""
        folders = {"TMPDIR": str(self.temporary), "GRISTMILL_CACHE": str(self.cache)}
        return {**environment(self.folder / "home"), **folders}

    @cached_property
    def layout(self) -> Layout:
        """The stack's folder."""
        return load_layout(self.folder / "s")

    @property
    def env(self) -> dict[str, str]:
        """The environment of clients of the stack."""
        return {**self.own_env, **self.layout.client_env()}

    @property
    def prefect(self) -> Prefect:
        """A client of the stack's Prefect server."""
        return Prefect(self.layout.api_url, self.env, self.folder / "home")

    def service(self, name: str) -> psutil.Process:
        """The first process of a service of the stack."""
        states = read_states(self.layout)
        assert states is not None, "supervisord does not run"
        return psutil.Process(states[name].pid)

    def wait_ready(self) -> None:
        """Wait until every service works."""
        waiting = list(SERVICES)

        def ready() -> bool:
            while waiting and waiting[0].is_ready(self.layout):
                waiting.pop(0)
            return not waiting

        wait_for(ready, poll_interval_s=0.5)

    # --- The run

    def storage_of(self, case: str) -> str:
        """The store of a case in the stack's bucket."""
        return f"s3://{BUCKET}/{case}"

    def recipe(self, storage: str, **changes: Any) -> dict[str, Any]:
        """The recipe of all cases, in another store."""
        entry = pair_entry(200, max_restarts=3)
        entry["run"]["checkpoint_url"] = f"{storage}/running"
        value = recipe(
            storage,
            self.folder / "in",
            cluster={"address": self.layout.scheduler},
            train=[entry],
            evaluate={"num_samples": 1, "max_new_tokens": 4},
        )
        value["sources"][0]["paths"] = [f"{self.folder / 'in'}/*.jsonl"]
        return {**value, "name": RECIPE, **changes}

    def deploy(self, value: Mapping[str, Any]) -> None:
        """Register the recipe's deployments."""
        path = write_recipe(self.folder / "deployed.yaml", value)
        result = run_to_end([str(GRISTMILL), "deploy", str(path)], self.env)
        assert result.code == 0, result.err

    def start(self, value: Mapping[str, Any]) -> str:
        """Start a run of the deployment of the whole pipeline; return its id."""
        return self.prefect.run(f"pipeline/{RECIPE}-pipeline", recipe=dict(value))

    @contextmanager
    def terminal(
        self, value: Mapping[str, Any], name: str, prefix: tuple[str, ...] = (), **env: str
    ) -> Iterator[TreeProcess]:
        """Run the recipe as from a terminal while the block lasts."""
        path = write_recipe(self.folder / f"{name}.yaml", value)
        command = [*prefix, str(GRISTMILL), "run", str(path)]
        log = self.folder / f"{name}.log"
        with (
            log.open("wb") as sink,
            process_tree(
                command, {**self.env, **env}, cwd=ROOT, stdout=sink, stderr=sink
            ) as process,
        ):
            yield process

    def wait_until(self, storage: str, moment: str, ended: Callable[[], bool]) -> None:
        """Wait until the run in a store has reached a moment.

        Args:
            storage: of the run.
            moment: a stage that is committed, or ``checkpoint``.
            ended: whether the run cannot reach it any more.

        Raises:
            AssertionError: if the run ends before.
        """

        def reached() -> bool:
            over = ended()
            with suppress(OSError):
                if has_reached(Storage(storage), moment):
                    return True
            assert not over, f"the run has ended before {moment}"
            return False

        wait_for(reached, poll_interval_s=0.1)

    def state(self, run: str) -> tuple[str, str]:
        """The type and the message of a run's state; two empty texts while the server is away."""
        try:
            url = f"{self.layout.api_url}/flow_runs/{run}"
            auth = tuple(self.env["PREFECT_API_AUTH_STRING"].split(":"))
            answer = httpx.get(url, auth=(auth[0], auth[1]), timeout=5)
            answer.raise_for_status()
            value = answer.json()
            return value["state_type"], value["state"]["message"] or ""
        except (httpx.HTTPError, ValueError):
            return "", ""

    def wait_ended(self, run: str, limit_s: float = END_LIMIT_S) -> tuple[str, str]:
        """Wait until a run has ended for good, and return its last state and message.

        A crashed run is started again by an automation, so it counts as ended only if that does not happen.
        """
        deadline = time.monotonic() + limit_s
        crashed_since = None
        while time.monotonic() < deadline:
            state, message = self.state(run)
            if state in ENDED:
                return state, message
            if state == "CRASHED":
                crashed_since = crashed_since or time.monotonic()
                if time.monotonic() - crashed_since > 2 * SETTLE_S:
                    return state, message
            elif state:
                crashed_since = None
            time.sleep(1)
        return self.state(run)

    # --- What is left of it

    def digests(self, storage: str) -> dict[str, str]:
        """The digests of all files of a store that do not depend on time."""
        files = Storage(storage)
        return {
            name: hashlib.sha256(files.read(name)).hexdigest()
            for name in files.list_files()
            if not VOLATILE.match(name)
        }

    def record_reference(self, storage: str) -> None:
        """Take the results in a store as those of an undisturbed run."""
        self.expected = self.digests(storage)

    def note_files(self) -> None:
        """Take what is on this machine now as not left by the run that begins.

        What was there before counts, too: a removal deletes what is cached, and the next run caches it again.
        """
        self._residue |= self._files_on_this_machine()

    def check(self, storage: str) -> list[str]:
        """Return what differs from the undisturbed run: data, files that are left, and processes."""
        problems = [*self._differing(storage), *self._verify(storage)]
        deadline = time.monotonic() + SETTLE_S
        while (left := self._left_on_this_machine()) and time.monotonic() < deadline:
            time.sleep(1)
        return [*problems, *left]

    def _differing(self, storage: str) -> list[str]:
        got = self.digests(storage)
        problems = [f"missing: {name}" for name in self.expected.keys() - got.keys()]
        problems += [f"left in the store: {name}" for name in got.keys() - self.expected.keys()]
        same = got.keys() & self.expected.keys()
        problems += [f"other bytes: {name}" for name in same if got[name] != self.expected[name]]
        return sorted(problems)

    def _verify(self, storage: str) -> list[str]:
        path = write_recipe(self.folder / "verify.yaml", self.recipe(storage))
        result = run_to_end([str(GRISTMILL), "verify", str(path)], self.env)
        return [] if result.code == 0 else [f"verify: {(result.out + result.err)[-500:]}"]

    def _files_on_this_machine(self) -> set[str]:
        roots = (self.temporary, self.cache, self.layout.data("prefect-worker"))
        paths = (path for root in roots for path in root.rglob("*"))
        names = {str(path.relative_to(self.folder)) for path in paths}
        return {name for name in names if not FOREIGN.match(name)}

    def _left_on_this_machine(self) -> list[str]:
        files = self._files_on_this_machine() - self._residue
        processes = [" ".join(item.cmdline())[:200] for item in self.processes_of_runs()]
        return [
            *(f"left on this machine: {name}" for name in sorted(files)),
            *(f"still running: {line}" for line in processes),
        ]

    def processes_of_runs(self) -> list[psutil.Process]:
        """All processes that belong to the stack but to none of its services."""
        services: set[int] = set()
        states = read_states(self.layout) or {}
        for name, state in states.items():
            with suppress(psutil.Error):
                process = psutil.Process(state.pid)
                services.add(process.pid)
                services.update(item.pid for item in process.parents())
                if name != "prefect-worker":
                    services.update(item.pid for item in process.children(recursive=True))
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                marker = process.environ().get(MARKER)
                if marker == str(self.layout.folder) and process.pid not in services:
                    found.append(process)
        return [item for item in found if is_alive(item)]

    def reused_steps(self, storage: str) -> str:
        """How many steps of the latest run in a store were there before it."""
        files = Storage(storage)
        names = [name for name in files.list_files(f"runs/{RECIPE}") if name.endswith(".json")]
        stages = json.loads(files.read(max(names)))["stages"]
        return f"{sum(stage['cached'] for stage in stages)} of {len(stages)} steps reused"
