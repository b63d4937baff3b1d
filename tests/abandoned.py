"""Not collected with the others: a test that starts processes of every kind and never ends."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from tests.processes import TREE, process_tree, tree_members

# A daemon: in a session of its own, without its parent, deaf to what can be ignored.
DAEMON = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
time.sleep(10_000)
"""


def square(number: int) -> int:
    return number * number


def test_processes_are_left_running() -> None:
    report = Path(os.environ["REPORT"])
    with (
        process_tree([sys.executable, "-c", DAEMON]) as command,
        DaskCluster(ClusterConfig.model_validate({"workers": 1})) as cluster,
    ):
        assert list(cluster.map(square, [(2,)])) == [(0, 4)]
        multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(10_000,)).start()
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10_000)"])
        command.wait()
        members = tree_members(os.environ[TREE])
        assert len(command.members()) == 1, "the daemon"
        temporary = report.with_suffix(".tmp")
        temporary.write_text(
            "\n".join(str(number) for number in [os.getpid(), *(m.pid for m in members)])
        )
        temporary.rename(report)
        time.sleep(10_000)
