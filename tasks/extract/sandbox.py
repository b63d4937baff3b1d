"""The parent's side of the extraction process: every page gets a result, whatever happens."""

import atexit
import logging
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import IO, cast

from pydantic import TypeAdapter

from tasks.extract.config import ExtractConfig
from tasks.extract.page import ExtractRequest
from tasks.extract.sandbox_worker import LENGTHS, ExtractResult, send_message

log = logging.getLogger(__name__)

# Wall-clock seconds for the process to load its libraries on a busy machine.
START_TIMEOUT_S = 120.0

# Wall-clock seconds for a page, per second of processor time that it may use. After them the parent
# kills the process; only a process that waits, or a machine that is suspended, takes so long.
WALL_CLOCK_FACTOR = 20.0


_RESULT: TypeAdapter[ExtractResult] = TypeAdapter(ExtractResult)


class WorkerDied(Exception):
    """The process ended. The argument is its exit status, ``None`` if it was killed as too slow."""


class SandboxedExtractor:
    """A process that extracts pages, restarted when it dies. For use by one thread.

    Args:
        config: engine and limits.
    """

    def __init__(self, config: ExtractConfig) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def __call__(self, request: ExtractRequest) -> ExtractResult:
        """Extract one page.

        Returns:
            The page; or a reason and a message: ``timeout`` (the page used up its processor
            time), ``crash`` (the process died twice: another process may have killed it once), and those of `tasks.extract.sandbox_worker.extract_safely`.
        """
        status: int | None = 0
        for _ in range(2):
            try:
                return self._call_worker(request)
            except WorkerDied as death:
                status = cast("int | None", death.args[0])
                self.close()
                if status is None or status == -signal.SIGPROF:
                    return "timeout", f"{self._config.max_cpu_seconds:g} s of processor time"
                log.warning("extracting %s ended its process (%s)", request.url, status)
        return "crash", f"the process ended with {status}"

    def _call_worker(self, request: ExtractRequest) -> ExtractResult:
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        fields = {name: value for name, value in vars(request).items() if name != "payload"}
        try:
            send_message(self._process.stdin, fields, request.payload)
        except BrokenPipeError:
            raise WorkerDied(self._process.wait()) from None
        return self._receive(self._process, self._config.max_cpu_seconds * WALL_CLOCK_FACTOR)

    def _start(self) -> subprocess.Popen[bytes]:
        config = self._config
        command = [sys.executable, "-m", "tasks.extract.sandbox_worker"]
        command += [config.engine, str(config.max_cpu_seconds), str(config.max_memory)]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
        )
        self._process = process
        try:
            self._receive(process, START_TIMEOUT_S)
        except WorkerDied as death:
            self._stderr.seek(0)
            message = self._stderr.read()[-2000:].decode("utf-8", "replace")
            self.close()
            raise RuntimeError(
                f"the extraction process did not start ({death})\n{message}"
            ) from None
        return process

    def _receive(self, process: subprocess.Popen[bytes], timeout_s: float) -> ExtractResult:
        """A result. The process parses what strangers wrote, so its answers are validated, too."""
        deadline = time.monotonic() + timeout_s
        size, _ = LENGTHS.unpack(self._read_exactly(process, LENGTHS.size, deadline))
        if size > self._config.max_memory:
            process.kill()
            raise WorkerDied(process.wait())
        body = self._read_exactly(process, size, deadline)
        try:
            return _RESULT.validate_json(body)
        except ValueError:
            process.kill()
            raise WorkerDied(process.wait()) from None

    def _read_exactly(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
        assert process.stdout is not None
        out = bytearray()
        descriptor = process.stdout.fileno()
        while len(out) < size:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([descriptor], [], [], max(0.0, left))
            if not ready:
                process.kill()
                process.wait()
                raise WorkerDied(None)
            chunk = process.stdout.read1(size - len(out))  # type: ignore[attr-defined]
            if not chunk:
                raise WorkerDied(process.wait())
            out += chunk
        return bytes(out)

    def close(self) -> None:
        """Kill the process; the next call starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None


def _close(pipe: IO[bytes]) -> None:
    with suppress(BrokenPipeError):  # a request may still be in the buffer
        pipe.close()


_thread_local = threading.local()
_extractors: list[SandboxedExtractor] = []


def get_extractor(config: ExtractConfig) -> SandboxedExtractor:
    """This thread's extractor for a configuration; it is kept until the worker ends."""
    extractors: dict[ExtractConfig, SandboxedExtractor] = _thread_local.__dict__.setdefault(
        "extractors", {}
    )
    if config not in extractors:
        extractors[config] = SandboxedExtractor(config)
        _extractors.append(extractors[config])
    return extractors[config]


def close_extractors() -> None:
    """End the extraction processes of all threads of this process."""
    for item in _extractors:
        item.close()


atexit.register(close_extractors)
