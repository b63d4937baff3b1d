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

from flows.execute import Result
from infra.compute.progress import Progress

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two updates of one stage
FAREWELL = 10.0  # seconds granted to the last artifacts at the end of a run
CURVE_POINTS = 2_000  # a curve with more is thinned to half of them
CURVE_INTERVAL = 30.0  # seconds between two pictures of a curve: each one stays in the database


def label(stage: str, name: str | None) -> str:
    """``annotate site``."""
    return f"{stage} {name}" if name else stage


class Console:
    """One line when a stage ends, and one every few seconds while it runs."""

    EVERY = 5.0

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to a stream; standard error by default, standard output being for results."""
        self._stream = stream or sys.stderr
        self._began = time.monotonic()
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def _say(self, text: str) -> None:
        with self._lock:
            clock = time.monotonic() - self._began
            self._stream.write(f"{int(clock // 60):3d}:{int(clock % 60):02d}  {text}\n")
            self._stream.flush()

    def update(self, progress: Progress) -> None:
        """Say how far a stage is, at most every few seconds."""
        name = label(progress.stage, progress.source)
        now = time.monotonic()
        with self._lock:
            if now - self._last.setdefault(name, now) < self.EVERY:
                return
            self._last[name] = now
        of = f"/{progress.total}" if progress.total else ""
        self._say(f"{name:<24} {progress.done}{of}  {progress.note}".rstrip())

    def link(self, name: str, url: str) -> None:
        """Say where something can be seen."""
        self._say(f"{name}: {url}")

    def remark(self, text: str) -> None:
        """Say what may not have been meant."""
        self._say(text)

    def finished(self, result: Result) -> None:
        """Say what became of a step."""
        counts = result.dataset.counts
        lost = [
            f"{verb} {sum(reasons.values()):,}"
            for verb, reasons in (("dropped", counts.dropped), ("failed", counts.failed))
            if reasons
        ]
        how = "already there" if result.cached else f"{result.seconds:.1f} s"
        numbers = ", ".join([f"{counts.in_:,} in", f"{counts.kept:,} kept", *lost])
        self._say(f"{label(result.step, result.entry or result.source):<24} {numbers}  ({how})")


class Artifacts:
    """Keeps Prefect's artifacts of a flow run up to date: progress, counts, curves, links."""

    def __init__(self) -> None:
        """Start the thread that talks to the server, in the flow run's context."""
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=10_000)
        self._latest: dict[str, Progress] = {}
        self._progress: dict[str, Any] = {}
        self._curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
        self._lock = threading.Lock()
        self._told = self._drawn = 0.0
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._talk,), daemon=True)
        self._thread.start()

    def update(self, progress: Progress) -> None:
        """Note the latest state of a stage."""
        name = label(progress.stage, progress.source)
        with self._lock:
            self._latest[name] = progress
            values = progress.values or {}
            if "step" in values:
                curves = self._curves.setdefault(name, {})
                for key in ("loss", "validation_loss"):
                    if key in values:
                        points = curves.setdefault(key, [])
                        points.append((values["step"], values[key]))
                        if len(points) > CURVE_POINTS:
                            del points[1::2]

    def link(self, name: str, url: str) -> None:
        """Publish a link."""
        from prefect.artifacts import create_link_artifact

        self._do(lambda: create_link_artifact(link=url, key=_key(name), description=name))

    def finished(self, result: Result) -> None:
        """Publish a step's counts by verdict and reason."""
        from prefect.artifacts import create_table_artifact

        counts = result.dataset.counts
        rows: list[dict[str, Any]] = [
            {"verdict": "in", "reason": "", "documents": counts.in_},
            {"verdict": "kept", "reason": "", "documents": counts.kept},
        ]
        for verdict, reasons in (("dropped", counts.dropped), ("failed", counts.failed)):
            rows += [
                {"verdict": verdict, "reason": reason, "documents": n}
                for reason, n in sorted(reasons.items(), key=lambda item: -item[1])
            ]
        name = label(result.step, result.entry or result.source)
        how = "already there" if result.cached else f"made in {result.seconds:.1f} s"
        text = f"**{name}**: {how}, `{result.folder}`, fingerprint `{result.dataset.fingerprint}`"
        self._do(
            lambda: create_table_artifact(table=rows, key=_key(f"counts {name}"), description=text)
        )

    def report(self, url: str) -> None:
        """Publish where the run's report is."""
        from prefect.artifacts import create_markdown_artifact

        text = f"The report of this run: [{url}]({url})"
        self._do(
            lambda: create_markdown_artifact(markdown=text, key="report", description="Report")
        )

    def close(self) -> None:
        """Tell the last state, but wait no longer than a few seconds for a server."""
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(FAREWELL)

    def _do(self, job: Callable[[], Any]) -> None:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            log.warning("the Prefect server does not keep up; an artifact is left out")

    def _talk(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=INTERVAL)
            except queue.Empty:
                job = self._tell_progress
            try:
                if job is None:
                    self._drawn = 0.0
                    self._tell_progress()
                else:
                    job()
                if time.monotonic() - self._told > INTERVAL:
                    self._tell_progress()
            except Exception as error:  # noqa: BLE001 - telling must never break the work
                log.debug("an artifact could not be published: %r", error)
            if job is None:
                return

    def _tell_progress(self) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        self._told = time.monotonic()
        with self._lock:
            latest, self._latest = self._latest, {}
            curves = {}
            if time.monotonic() - self._drawn > CURVE_INTERVAL:
                curves = {
                    name: {key: list(points) for key, points in lines.items()}
                    for name, lines in self._curves.items()
                }
                self._drawn = time.monotonic()
        for name, progress in latest.items():
            share = 100.0 * progress.done / progress.total if progress.total else 0.0
            text = f"{progress.done} of {progress.total or '?'}  {progress.note}".strip()
            if name in self._progress:
                update_progress_artifact(
                    artifact_id=self._progress[name], progress=share, description=text
                )
            else:
                self._progress[name] = create_progress_artifact(
                    progress=share, key=_key(f"progress {name}"), description=text
                )
        for name, lines in curves.items():
            self._tell_curve(name, lines)

    def _tell_curve(self, name: str, lines: dict[str, list[tuple[float, float]]]) -> None:
        from prefect.artifacts import create_image_artifact

        if not any(len(points) > 1 for points in lines.values()):
            return
        picture = base64.b64encode(curve_png(name, lines)).decode()
        create_image_artifact(
            image_url=f"data:image/png;base64,{picture}",
            key=_key(f"loss {name}"),
            description=f"Loss of {name}, in nats per token",
        )


def curve_png(title: str, lines: dict[str, list[tuple[float, float]]]) -> bytes:
    """A small chart of loss over steps, as PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for key, points in sorted(lines.items()):
        steps, losses = zip(*points, strict=True)
        axes.plot(steps, losses, label=key.replace("_", " "), linewidth=1.2)
    axes.set(title=title, xlabel="step", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _key(name: str) -> str:
    """An artifact's key: lower-case letters, numbers and dashes, as Prefect asks."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
