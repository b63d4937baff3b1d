"""Progress of a run as lines in the terminal."""

import sys
import threading
import time
from typing import TextIO

from flows.execute import StepResult, step_label
from infra.compute.progress import Progress


class ConsoleReporter:
    """Prints a line when a step ends, and one every few seconds while it runs."""

    INTERVAL_S = 5.0

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to a stream; by default to standard error, since standard output is for results."""
        self._stream = stream or sys.stderr
        self._start = time.monotonic()
        self._last_printed: dict[str, float] = {}
        self._lock = threading.Lock()

    def _print(self, text: str) -> None:
        with self._lock:
            clock = time.monotonic() - self._start
            self._stream.write(f"{int(clock // 60):3d}:{int(clock % 60):02d}  {text}\n")
            self._stream.flush()

    def update(self, progress: Progress) -> None:
        """Print the progress of a stage, at most every few seconds."""
        name = step_label(progress.stage, progress.source)
        now = time.monotonic()
        with self._lock:
            if now - self._last_printed.setdefault(name, now) < self.INTERVAL_S:
                return
            self._last_printed[name] = now
        of = f"/{progress.total}" if progress.total else ""
        self._print(f"{name:<24} {progress.completed}{of}  {progress.message}".rstrip())

    def link(self, name: str, url: str) -> None:
        """Print a link."""
        self._print(f"{name}: {url}")

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._print(text)

    def step_finished(self, result: StepResult) -> None:
        """Print the counts of a finished step."""
        counts = result.dataset.counts
        numbers = [f"{counts.n_in:,} in", f"{counts.kept:,} kept"]
        for verb, reasons in (("dropped", counts.dropped), ("failed", counts.failed)):
            if reasons:
                numbers.append(f"{verb} {sum(reasons.values()):,}")
        how = "already committed" if result.cached else f"{result.seconds:.1f} s"
        label = step_label(result.stage, result.entry or result.source)
        self._print(f"{label:<24} {', '.join(numbers)}  ({how})")
