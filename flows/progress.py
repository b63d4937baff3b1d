"""What a person sees while a run goes on: lines in the terminal, artifacts in Prefect's UI.

Listeners only note the latest state; a thread of their own does the talking, so that neither a slow
terminal nor a server that has gone away ever slows a stage.
"""

import base64
import contextvars
import io
import logging
import queue
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from flows.execute import StepResult
from infra.compute.progress import Progress

log = logging.getLogger(__name__)

UPDATE_INTERVAL_S = 1.0  # seconds between two updates of one stage
SHUTDOWN_TIMEOUT_S = 10.0  # seconds granted to the last artifacts at the end of a run
MAX_CURVE_POINTS = 2_000  # a curve with more is thinned to half of them
CURVE_INTERVAL_S = 30.0  # seconds between two pictures of a curve: each one stays in the database


def step_label(stage: str, name: str | None) -> str:
    """``annotate site``."""
    return f"{stage} {name}" if name else stage


class ConsoleReporter:
    """One line when a stage ends, and one every few seconds while it runs."""

    INTERVAL_S = 5.0

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to a stream; standard error by default, standard output being for results."""
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
        """Say how far a stage is, at most every few seconds."""
        name = step_label(progress.stage, progress.source)
        now = time.monotonic()
        with self._lock:
            if now - self._last_printed.setdefault(name, now) < self.INTERVAL_S:
                return
            self._last_printed[name] = now
        of = f"/{progress.total}" if progress.total else ""
        self._print(f"{name:<24} {progress.completed}{of}  {progress.message}".rstrip())

    def link(self, name: str, url: str) -> None:
        """Say where something can be seen."""
        self._print(f"{name}: {url}")

    def warn(self, text: str) -> None:
        """Say what may not have been meant."""
        self._print(text)

    def step_finished(self, result: StepResult) -> None:
        """Say what became of a step."""
        counts = result.dataset.counts
        lost = [
            f"{verb} {sum(reasons.values()):,}"
            for verb, reasons in (("dropped", counts.dropped), ("failed", counts.failed))
            if reasons
        ]
        how = "already there" if result.cached else f"{result.seconds:.1f} s"
        numbers = ", ".join([f"{counts.n_in:,} in", f"{counts.kept:,} kept", *lost])
        self._print(
            f"{step_label(result.step, result.entry or result.source):<24} {numbers}  ({how})"
        )


class PrefectReporter:
    """Keeps Prefect's artifacts of a flow run up to date: progress, counts, curves, links."""

    def __init__(self) -> None:
        """Start the thread that talks to the server, in the flow run's context."""
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=10_000)
        self._latest: dict[str, Progress] = {}
        self._progress_ids: dict[str, Any] = {}
        self._curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
        self._lock = threading.Lock()
        self._last_published = self._last_drawn = 0.0
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._publish_loop,), daemon=True)
        self._thread.start()

    def update(self, progress: Progress) -> None:
        """Note the latest state of a stage."""
        name = step_label(progress.stage, progress.source)
        with self._lock:
            self._latest[name] = progress
            values = progress.values or {}
            if "step" in values:
                curves = self._curves.setdefault(name, {})
                for key in ("loss", "validation_loss"):
                    if key in values:
                        points = curves.setdefault(key, [])
                        points.append((values["step"], values[key]))
                        if len(points) > MAX_CURVE_POINTS:
                            del points[1::2]

    def link(self, name: str, url: str) -> None:
        """Publish a link."""
        from prefect.artifacts import create_link_artifact

        self._enqueue(
            lambda: create_link_artifact(link=url, key=_artifact_key(name), description=name)
        )

    def step_finished(self, result: StepResult) -> None:
        """Publish a step's counts by verdict and reason."""
        from prefect.artifacts import create_table_artifact

        counts = result.dataset.counts
        rows: list[dict[str, Any]] = [
            {"verdict": "in", "reason": "", "documents": counts.n_in},
            {"verdict": "kept", "reason": "", "documents": counts.kept},
        ]
        for verdict, reasons in (("dropped", counts.dropped), ("failed", counts.failed)):
            rows += [
                {"verdict": verdict, "reason": reason, "documents": n}
                for reason, n in sorted(reasons.items(), key=lambda item: -item[1])
            ]
        name = step_label(result.step, result.entry or result.source)
        how = "already there" if result.cached else f"made in {result.seconds:.1f} s"
        text = f"**{name}**: {how}, `{result.folder}`, fingerprint `{result.dataset.fingerprint}`"
        self._enqueue(
            lambda: create_table_artifact(
                table=rows, key=_artifact_key(f"counts {name}"), description=text
            )
        )

    def publish_report(self, url: str) -> None:
        """Publish where the run's report is."""
        from prefect.artifacts import create_markdown_artifact

        text = f"The report of this run: [{url}]({url})"
        self._enqueue(
            lambda: create_markdown_artifact(markdown=text, key="report", description="Report")
        )

    def close(self) -> None:
        """Tell the last state, but wait no longer than a few seconds for a server."""
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(SHUTDOWN_TIMEOUT_S)

    def _enqueue(self, job: Callable[[], Any]) -> None:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            log.warning("the Prefect server does not keep up; an artifact is left out")

    def _publish_loop(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=UPDATE_INTERVAL_S)
            except queue.Empty:
                job = self._publish_progress
            try:
                if job is None:
                    self._last_drawn = 0.0
                    self._publish_progress()
                else:
                    job()
                if time.monotonic() - self._last_published > UPDATE_INTERVAL_S:
                    self._publish_progress()
            except Exception as error:  # noqa: BLE001 - telling must never break the work
                log.debug("an artifact could not be published: %r", error)
            if job is None:
                return

    def _publish_progress(self) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        self._last_published = time.monotonic()
        with self._lock:
            latest, self._latest = self._latest, {}
            curves = {}
            if time.monotonic() - self._last_drawn > CURVE_INTERVAL_S:
                curves = {
                    name: {key: list(points) for key, points in lines.items()}
                    for name, lines in self._curves.items()
                }
                self._last_drawn = time.monotonic()
        for name, progress in latest.items():
            share = 100.0 * progress.completed / progress.total if progress.total else 0.0
            text = f"{progress.completed} of {progress.total or '?'}  {progress.message}".strip()
            if name in self._progress_ids:
                update_progress_artifact(
                    artifact_id=self._progress_ids[name], progress=share, description=text
                )
            else:
                self._progress_ids[name] = create_progress_artifact(
                    progress=share, key=_artifact_key(f"progress {name}"), description=text
                )
        for name, lines in curves.items():
            self._publish_curve(name, lines)

    def _publish_curve(self, name: str, series: dict[str, list[tuple[float, float]]]) -> None:
        from prefect.artifacts import create_image_artifact

        if not any(len(points) > 1 for points in series.values()):
            return
        picture = base64.b64encode(loss_curve_png(name, series)).decode()
        create_image_artifact(
            image_url=f"data:image/png;base64,{picture}",
            key=_artifact_key(f"loss {name}"),
            description=f"Loss of {name}, in nats per token",
        )


def loss_curve_png(title: str, series: dict[str, list[tuple[float, float]]]) -> bytes:
    """A small chart of loss over steps, as PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for key, points in sorted(series.items()):
        steps, losses = zip(*points, strict=True)
        axes.plot(steps, losses, label=key.replace("_", " "), linewidth=1.2)
    axes.set(title=title, xlabel="step", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _artifact_key(name: str) -> str:
    """An artifact's key: lower-case letters, numbers and dashes, as Prefect asks."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
