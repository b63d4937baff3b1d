"""Child processes that cannot outlive the work they belong to.

A child leads its own process group, is killed by the kernel when its parent dies however that
happens, and is stopped with its whole group when the run is cancelled.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
TERM_GRACE_S = 5.0  # seconds between SIGTERM and SIGKILL

_running: set["subprocess.Popen[bytes]"] = set()
_lock = threading.Lock()
_cancelled = threading.Event()


def boot_id() -> str:
    """Return an id of this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import psutil

        return str(int(psutil.boot_time()))


class RunCancelled(Exception):
    """The run is being stopped; nothing new is started."""


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Ask the kernel to end this process when its parent dies (Linux; elsewhere a no-op).

    For use in a child: as ``preexec_fn``, or first thing in a worker process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number)


@cache
def end_on_hangup() -> None:
    """End on SIGHUP, the end of a terminal's session, as on SIGTERM; call it before anything starts.

    The signal is blocked here and in all processes that this one starts, and a thread waits for it.
    Otherwise helpers would die of it first, such as the resource tracker of ``multiprocessing``, which
    removes semaphores from shared memory.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    def terminate_on_hangup() -> None:
        signal.sigwait({signal.SIGHUP})
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate_on_hangup, name="hangup", daemon=True).start()


@contextmanager
def managed_process(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.STDOUT,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command as the leader of its own process group, and end the group with the block.

    The block reads the child's output and waits for it. However the block ends, also by
    an error or a cancellation, the group gets SIGTERM and, a few seconds later, SIGKILL.

    Note that Linux ties the death signal to the *thread* that started the child: start it from a
    thread that lives as long as the work.
    """
    with _lock:
        if _cancelled.is_set():
            raise RunCancelled("the run is being stopped")
        process = subprocess.Popen(
            list(command),
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - a single prctl, safe between fork and exec
        )
        _running.add(process)
    try:
        yield process
    finally:
        terminate_group(process)
        with _lock:
            _running.discard(process)


def terminate_group(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a child's whole group: SIGTERM, then SIGKILL for the rest."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(TERM_GRACE_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def reset_cancellation() -> None:
    """Let ``managed_process`` start processes again: for a new run in this process."""
    _cancelled.clear()


def cancel_processes() -> None:
    """Terminate every child of this process, and refuse to start others: the run is cancelled."""
    with _lock:
        _cancelled.set()
        running = list(_running)
    for process in running:
        terminate_group(process)
