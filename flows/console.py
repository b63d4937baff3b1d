"""Progress of a run in the terminal: a bar per running step, or plain lines where it is not a terminal."""

import os
import sys
import threading
import time
from types import TracebackType
from typing import Any, Self, TextIO

from flows.execute import StepResult, step_label
from infra.compute.progress import Progress
from infra.log_format import is_json_format, json_line

REFRESHES_PER_SECOND = 4
LABEL_WIDTH = 24


class ConsoleReporter:
    """Prints a line when a step ends, and one every few seconds while it runs."""

    INTERVAL_S = 5.0

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to a stream; by default to standard error, since standard output is for results."""
        self._stream = stream or sys.stderr
        self._start = time.monotonic()
        self._last_printed: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is left to do."""

    def step_started(self, stage: str, source: str | None) -> None:
        """Print nothing: most steps are found done within a moment."""

    def step_failed(self, stage: str, source: str | None) -> None:
        """Print nothing: the run's error names the step."""

    def update(self, progress: Progress) -> None:
        """Print the progress of a stage, at most every few seconds."""
        name = step_label(progress.stage, progress.source)
        if not self._is_due(name):
            return
        of = f"/{progress.total}" if progress.total else ""
        what = progress.message or progress.phase or ""
        self._print(f"{name:<{LABEL_WIDTH}} {progress.completed}{of}  {what}".rstrip())

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
        self._print(f"{label:<{LABEL_WIDTH}} {', '.join(numbers)}  ({how})")

    def _is_due(self, name: str) -> bool:
        now = time.monotonic()
        with self._lock:
            if now - self._last_printed.setdefault(name, now) < self.INTERVAL_S:
                return False
            self._last_printed[name] = now
        return True

    def _print(self, text: str) -> None:
        clock = time.monotonic() - self._start
        line = f"{int(clock // 60):3d}:{int(clock % 60):02d}  {text}"
        with self._lock:
            self._write(line)

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


class JsonConsole(ConsoleReporter):
    """Writes the same lines as JSON objects, with the figures as fields."""

    def update(self, progress: Progress) -> None:
        """Write the progress of a stage, at most every few seconds."""
        name = step_label(progress.stage, progress.source)
        if self._is_due(name):
            self._write_json(
                progress.message or progress.phase or name,
                stage=progress.stage,
                source=progress.source,
                completed=progress.completed,
                total=progress.total or None,
            )

    def step_finished(self, result: StepResult) -> None:
        """Write nothing: the run's log has a line with the counts."""

    def _print(self, text: str) -> None:
        self._write_json(text)

    def _write_json(self, message: str, **fields: Any) -> None:
        line = json_line(time.time(), "info", __name__, message, **fields)
        with self._lock:
            self._write(line)


class LiveConsole(ConsoleReporter):
    """Shows a bar for every running step below the lines of the finished ones."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to a terminal; by default to that of standard error."""
        from rich.console import Console

        super().__init__(stream)
        self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        self._bars = _new_bars(self._console)
        self._ids: dict[str, Any] = {}
        self._running: set[str] = set()
        self._phases: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        """Start to draw."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bars of what has not finished, and give the terminal back."""
        self._bars.stop()

    def step_started(self, stage: str, source: str | None) -> None:
        """Draw a bar without a length."""
        label = step_label(stage, source)
        with self._lock:
            self._running.add(label)
            self._bar(label)

    def step_failed(self, stage: str, source: str | None) -> None:
        """Remove the step's bar."""
        self._remove(step_label(stage, source))

    def step_finished(self, result: StepResult) -> None:
        """Replace the step's bar by its line."""
        self._remove(step_label(result.stage, result.entry or result.source))
        super().step_finished(result)

    def update(self, progress: Progress) -> None:
        """Move the bar of a stage."""
        label = step_label(progress.stage, progress.source)
        with self._lock:
            # What a step makes for itself, such as signatures, has a bar until it is complete.
            if label not in self._running and progress.completed == progress.total:
                if label in self._ids:
                    self._bars.remove_task(self._ids.pop(label))
                return
            bar = self._bar(label)
            if self._phases.get(label) != progress.phase:  # it starts at 0 again
                self._phases[label] = progress.phase
                self._bars.reset(bar)
            message = progress.message or progress.phase or ""
            if progress.written is not None and progress.written.documents and not message:
                message = f"{progress.written.documents:,} documents"
            self._bars.update(
                bar, total=progress.total or None, completed=progress.completed, message=message
            )

    def _bar(self, label: str) -> Any:
        if label not in self._ids:
            self._ids[label] = self._bars.add_task(label, total=None, message="")
        return self._ids[label]

    def _remove(self, label: str) -> None:
        with self._lock:
            self._running.discard(label)
            if label in self._ids:
                self._bars.remove_task(self._ids.pop(label))

    def _write(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


def new_console() -> ConsoleReporter:
    """Return bars if standard error is a terminal that can show them, otherwise lines; JSON if that is wanted."""
    if is_json_format():
        return JsonConsole()
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        return LiveConsole()
    return ConsoleReporter()


def _new_bars(console: Any) -> Any:
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as Bars
    from rich.table import Column
    from rich.text import Text

    class CountAndRate(ProgressColumn):
        """Finished units, the rate, and the time left; the time so far if the end is unknown."""

        def render(self, task: Task) -> Text:
            if not task.total:
                return Text(f"{_format_clock(task.elapsed)} so far")
            parts = [f"{task.completed:,.0f}/{task.total:,.0f}"]
            if task.speed:
                parts += [_format_rate(task.speed), f"{_format_clock(task.time_remaining)} left"]
            elif not task.finished:
                parts.append(f"{_format_clock(task.elapsed)} so far")
            return Text(" ".join(parts))

    is_narrow = console.width < 100
    label_width = 20 if is_narrow else 32
    return Bars(
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", max_width=label_width),
        ),
        BarColumn(bar_width=8 if is_narrow else 20),
        CountAndRate(table_column=Column(no_wrap=True)),
        TextColumn(
            "{task.fields[message]}",
            markup=False,
            style="dim",
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
        expand=True,
    )


def _format_rate(per_second: float) -> str:
    if per_second >= 1:
        return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"
    return f"{per_second * 60:.1f}/min"


def _format_clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
