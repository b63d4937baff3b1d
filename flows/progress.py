"""Progress of a run as artifacts in Prefect's UI.

The reporter only stores the latest state. A separate thread publishes it, so that an unreachable
server does not slow down a stage.
"""

import contextvars
import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.execute import StepResult, step_label
from flows.loss_curve import data_url, loss_curve_svg
from infra.compute.progress import Progress
from infra.store.environment import mask
from infra.store.storage import Storage

log = logging.getLogger(__name__)

UPDATE_INTERVAL_S = 1.0  # between two updates of the progress artifacts
SHUTDOWN_TIMEOUT_S = 30.0  # for the last artifacts at the end of a run
MAX_CURVE_POINTS = 2_000  # beyond it every second point is dropped
CURVE_INTERVAL_S = 30.0  # between two images of a curve: each one stays in the database


class PrefectReporter:
    """Keeps Prefect's artifacts of a flow run up to date: progress, counts, curves, links."""

    def __init__(self) -> None:
        """Start the thread that publishes, in the flow run's context."""
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
        """Store the latest state of a stage."""
        name = step_label(progress.stage, progress.source)
        values = progress.values or {}
        with self._lock:
            self._latest[name] = progress
            for key in ("loss", "validation_loss"):
                if "step" in values and key in values:
                    points = self._curves.setdefault(name, {}).setdefault(key, [])
                    points.append((values["step"], values[key]))
                    if len(points) > MAX_CURVE_POINTS:
                        del points[1::2]

    def link(self, name: str, url: str) -> None:
        """Publish a link."""
        self._enqueue(
            lambda: create_link_artifact(link=url, key=_artifact_key(name), description=name)
        )

    def step_finished(self, result: StepResult) -> None:
        """Publish the counts of a finished step by verdict and reason."""
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
        name = step_label(result.stage, result.entry or result.source)
        how = "already committed" if result.cached else f"built in {result.seconds:.1f} s"
        text = f"**{name}**: {how}, `{result.folder}`, fingerprint `{result.dataset.fingerprint}`"
        self._enqueue(
            lambda: create_table_artifact(
                table=rows, key=_artifact_key(f"counts {name}"), description=text
            )
        )

    def publish_report(self, storage: Storage, path: str) -> None:
        """Publish the address of the run's report, to be copied.

        A link would not open: browsers follow none from a web page to a file, and know no ``s3:``.
        """
        local = storage.local_path(path)
        address = local.as_uri() if local else f"{storage.url.rstrip('/')}/{path}"
        how = "open in a browser" if local else "download"
        text = f"The report of this run, to {how} on a machine with access:\n\n```\n{mask(address)}\n```"
        self._enqueue(
            lambda: create_markdown_artifact(markdown=text, key="report", description="Report")
        )

    def close(self) -> None:
        """Publish the last state, but wait for the server for a few seconds at most."""
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(SHUTDOWN_TIMEOUT_S)

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
            percent = 100.0 * progress.completed / progress.total if progress.total else 0.0
            text = f"{progress.completed} of {progress.total or '?'}  {progress.message}".strip()
            if name in self._progress_ids:
                update_progress_artifact(
                    artifact_id=self._progress_ids[name], progress=percent, description=text
                )
            else:
                self._progress_ids[name] = create_progress_artifact(
                    progress=percent, key=_artifact_key(f"progress {name}"), description=text
                )
        for name, lines in curves.items():
            self._publish_curve(name, lines)

    def _publish_curve(self, name: str, series: dict[str, list[tuple[float, float]]]) -> None:
        if not any(len(points) > 1 for points in series.values()):
            return
        create_image_artifact(
            image_url=data_url(loss_curve_svg(f"Loss of {name}", series)),
            key=_artifact_key(f"loss {name}"),
            description=f"Loss of {name}, in nats per token",
        )


def _artifact_key(name: str) -> str:
    """Turn a name into an artifact key: lower-case letters, numbers and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
