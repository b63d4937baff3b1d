"""Processes that tests start: they end with their test, and with its pytest process if that is killed.

A variable in the environment names the tree that a process belongs to. Children inherit it, also those
that lead a session of their own or have lost their parent, which process groups and parents miss.
Beside each pytest process a guard waits for its end, however it ends, and kills its tree.
"""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
# Names such as `session/command`: what is in `session` includes what is in `session/command`.
TREE = "TEST_PROCESS_TREE"


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def tree_members(tree: str) -> list[psutil.Process]:
    """Return the running processes of a tree."""

    def is_member(process: psutil.Process) -> bool:
        try:
            name = process.environ().get(TREE, "")
        except (psutil.Error, OSError):  # it has ended, or is another user's
            return False
        return name == tree or name.startswith(f"{tree}/")

    found: dict[int, psutil.Process] = {}
    # Parents come before children. Redis overwrites its environment with its title.
    for process in sorted(psutil.process_iter(["ppid", "create_time"]), key=_age):
        if process.info["ppid"] in found or is_member(process):
            found[process.pid] = process
    return [process for process in found.values() if is_alive(process)]


def _age(process: psutil.Process) -> tuple[float, int]:
    return process.info["create_time"] or 0.0, process.pid


def kill_tree(tree: str) -> None:
    """Kill all processes of a tree, also those that they start meanwhile."""
    while members := tree_members(tree):
        for process in members:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(members, timeout=1)


def new_tree() -> str:
    """Return the name of a new tree within the one of this process."""
    outer = os.environ.get(TREE)
    name = secrets.token_hex(4)
    return f"{outer}/{name}" if outer else name


@contextmanager
def guarded() -> Iterator[None]:
    """Kill all that this process has started when the block ends, or when this process is killed."""
    tree = new_tree()
    # Outside of the tree: it ends by itself with this process, which still needs it in its last moments.
    resource_tracker.ensure_running()
    # -P: `tests` has folders with the names of standard modules.
    command = [sys.executable, "-P", __file__, tree]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guard:
        assert guard.stdin is not None
        # A child that is forked must not keep the pipe open.
        os.register_at_fork(after_in_child=guard.stdin.close)
        before = os.environ.get(TREE)
        os.environ[TREE] = tree
        try:
            yield
        finally:
            del os.environ[TREE]
            if before is not None:
                os.environ[TREE] = before


class TreeProcess(subprocess.Popen[bytes]):
    """A command in a session of its own, as the root of a tree."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        """Start it; ``env`` replaces this process's environment."""
        self.tree = new_tree()
        super().__init__(
            command,
            env={**(os.environ if env is None else env), TREE: self.tree},
            start_new_session=True,
            preexec_fn=_reset_sigint,
            **options,
        )

    def members(self) -> list[psutil.Process]:
        """Return the running processes of the tree."""
        return tree_members(self.tree)


@contextmanager
def process_tree(
    command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
) -> Iterator[TreeProcess]:
    """Run a command; at the end of the block, kill it and all that it has started.

    Args:
        command: the command line.
        env: its environment; by default this process's.
        options: further ones of ``subprocess.Popen``.
    """
    process = TreeProcess(command, env, **options)
    try:
        yield process
    finally:
        kill_tree(process.tree)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _reset_sigint() -> None:
    """Let Ctrl-C interrupt a child: processes in the background inherit that it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.stdin.buffer.read()  # until the pytest process has ended
    kill_tree(sys.argv[1])
