"""A run in Prefect's UI while it goes on: progress, funnel, loss curves; at its end the results.

The reporter only stores the latest state. A separate thread publishes it, so that an unreachable
server does not slow down a stage.
"""

import contextvars
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flows.artifacts import RunArtifacts
from flows.execute import StepResult, step_label
from flows.loss_curve import loss_curve_svg
from flows.rate import RateMeter, describe_progress, format_rate
from flows.steps import STEPS
from flows.summary import (
    describe_lineage,
    describe_samples,
    evaluation_rows,
    funnel_rows,
    gate_rows,
    leaderboard_rows,
    summarize_run,
)
from flows.svg import data_url
from infra.compute.progress import Progress
from infra.registry.versions import Version
from views.report import ReportPage
from views.report.formatting import format_duration

log = logging.getLogger(__name__)

UPDATE_INTERVAL_S = 1.0  # between two updates of the progress artifacts
PROGRESS_DELAY_S = 10.0  # a step that takes less has no progress bar
SHUTDOWN_TIMEOUT_S = 30.0  # for the last artifacts at the end of a run
MAX_CURVE_POINTS = 2_000  # beyond it every second point is dropped
CURVE_INTERVAL_S = 10.0  # between two updates of the curves
UNITS = {step.name: step.units for step in STEPS}  # without what steps make for themselves


@dataclass
class RunningStep:
    """A step that has reported progress: its latest state, its rate, and the largest count of units.

    A crawl counts pages, and then the parts that they are written to.
    """

    latest: Progress
    largest: Progress
    start: float = field(default_factory=time.monotonic)
    meter: RateMeter = field(default_factory=RateMeter)
    changed: bool = True

    @property
    def has_bar(self) -> bool:
        """Whether it has lasted long enough, with more than one unit, to be worth a progress bar."""
        lasting = time.monotonic() - self.start >= PROGRESS_DELAY_S
        return lasting and self.largest.total != 1

    def update(self, progress: Progress) -> None:
        """Take a new state."""
        if (progress.phase, progress.units) != (self.latest.phase, self.latest.units):
            self.meter = RateMeter()
        self.latest, self.changed = progress, True
        self.largest = max(self.largest, progress, key=lambda item: (item.total, item.completed))
        self.meter.add(time.monotonic(), progress.completed)


class PrefectReporter:
    """Keeps Prefect's artifacts of a flow run up to date."""

    def __init__(self, recipe: str) -> None:
        """Start the thread that publishes, in the flow run's context."""
        self._artifacts = RunArtifacts(recipe)
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=10_000)
        self._running: dict[str, RunningStep] = {}
        self._curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
        self._curves_changed = False
        self._links: list[str] = []
        self._lock = threading.Lock()
        self._last_published = self._last_drawn = 0.0
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._publish_loop,), daemon=True)
        self._thread.start()

    def update(self, progress: Progress) -> None:
        """Store the latest state of a stage."""
        name = step_label(progress.stage, progress.source)
        values = progress.values or {}
        with self._lock:
            self._running.setdefault(name, RunningStep(progress, progress)).update(progress)
            for key in ("loss", "validation_loss"):
                if "step" in values and key in values:
                    points = self._curves.setdefault(name, {}).setdefault(key, [])
                    points.append((values["step"], values[key]))
                    self._curves_changed = True
                    if len(points) > MAX_CURVE_POINTS:
                        del points[1::2]

    def link(self, name: str, url: str) -> None:
        """Publish a link."""
        self._enqueue(lambda: self._artifacts.put_link(name, url, name))
        self._links.append(name)

    def step_finished(self, result: StepResult, finished: Sequence[StepResult]) -> None:
        """Publish the funnel, and the end of the step's progress.

        Args:
            result: of the step.
            finished: the results of all steps that have finished, in the order of the pipeline.
        """
        description = "Documents through every step, and why some did not stay"
        self._put_table("funnel", funnel_rows(finished), description)
        name = step_label(result.stage, result.entry or result.source)
        with self._lock:
            running = self._running.pop(name, None)
        if running is not None:
            self._enqueue(lambda: self._publish_end(name, running))

    def publish_results(self, page: ReportPage, report: str, *, has_removals: bool) -> None:
        """Publish what the report shows: headline numbers, leaderboard, evaluation, samples, lineage.

        Args:
            page: the report.
            report: Markdown that leads to it.
            has_removals: whether documents were removed from the recipe.
        """
        self._put_page("report", summarize_run(page, report), "How the run ended")
        if lineage := page.data("lineage"):
            description = "Which data set was made from which"
            self._put_page("lineage", describe_lineage(lineage), description)
        if leaderboard := page.data("leaderboard"):
            description = "Models by bits per byte of the same held-out text, and what they cost"
            self._put_table("leaderboard", leaderboard_rows(leaderboard.board), description)
        models = page.data("models")
        if models and models.evaluation:
            description = "Bits per byte of held-out documents; less is better"
            self._put_table("evaluation", evaluation_rows(models), description)
        has_samples = bool(models and models.samples)
        if has_samples:
            description = "What the models write after the beginnings of held-out documents"
            self._put_page("samples", describe_samples(models), description)
        if has_samples or has_removals:
            # Samples quote documents, and a removal, which the next run applies, has to reach them.
            self._enqueue(lambda: self._artifacts.delete_earlier("samples"))

    def publish_gates(self, versions: Sequence[Version]) -> None:
        """Publish how the gates of the run's models turned out."""
        if rows := gate_rows(versions):
            self._put_table("gates", rows, "What the models had to reach, and what they reached")

    def close(self, *, keep_links: bool) -> None:
        """Publish the last state, but wait for the server for a few seconds at most.

        Args:
            keep_links: whether what the links lead to outlives the run.
        """
        for name in () if keep_links else self._links:
            self._enqueue(partial(self._artifacts.delete, name))
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(SHUTDOWN_TIMEOUT_S)

    def _put_table(self, name: str, rows: list[dict[str, Any]], description: str) -> None:
        self._enqueue(partial(self._artifacts.put_table, name, rows, description))

    def _put_page(self, name: str, text: str, description: str) -> None:
        self._enqueue(partial(self._artifacts.put_markdown, name, text, description))

    def _enqueue(self, job: Callable[[], Any]) -> None:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            log.warning("the Prefect server is too slow; an artifact was not published")

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
            except Exception as error:  # noqa: BLE001 - publishing must never stop the work
                log.debug("an artifact could not be published: %r", error)
            if job is None:
                return

    def _publish_progress(self) -> None:
        self._last_published = now = time.monotonic()
        with self._lock:
            changed = {
                name: (step.latest, step.meter.per_second)
                for name, step in self._running.items()
                if step.has_bar and step.changed
            }
            for name in changed:
                self._running[name].changed = False
            curves: dict[str, list[tuple[float, float]]] = {}
            if self._curves_changed and now - self._last_drawn >= CURVE_INTERVAL_S:
                curves = _label_curves(self._curves)
                self._last_drawn, self._curves_changed = now, False
        for name, (progress, per_second) in changed.items():
            if progress.stage not in UNITS and progress.completed == progress.total:
                self._artifacts.delete(f"progress {name}")  # of what a step makes for itself
                continue
            percent = 100.0 * progress.completed / progress.total if progress.total else 0.0
            text = describe_progress(progress, _units(progress), per_second)
            self._artifacts.put_progress(f"progress {name}", percent, f"{name}: {text}")
        if any(len(points) > 1 for points in curves.values()):
            image = data_url(loss_curve_svg("Loss", curves))
            self._artifacts.put_image("loss", image, "Loss in nats per token, by training step")

    def _publish_end(self, name: str, step: RunningStep) -> None:
        """Complete the progress bar of a step, if it has one, or delete that of a lesser step."""
        if not step.has_bar:
            return
        if not UNITS[step.latest.stage]:
            self._artifacts.delete(f"progress {name}")
            return
        seconds = time.monotonic() - step.start
        progress = step.largest
        text = f"finished in {format_duration(seconds)}"
        if progress.completed and not progress.phase:
            done = f"{progress.completed:,} {_units(progress)}"
            rate = format_rate(progress.completed / seconds)
            text = f"{done} in {format_duration(seconds)}, {rate}"
        self._artifacts.put_progress(f"progress {name}", 100.0, f"{name}: {text}")


def _units(progress: Progress) -> str:
    return progress.units or UNITS.get(progress.stage) or "parts"


def _label_curves(
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
) -> dict[str, list[tuple[float, float]]]:
    """Name each curve by its step, if there are several."""
    return {
        key if len(curves) == 1 else f"{name.partition(' ')[2]}: {key}": list(points)
        for name, lines in curves.items()
        for key, points in lines.items()
    }
