"""Where the operator of a machine wants the metrics of its runs: ``GRISTMILL_METRICS``.

A run ends, and Prometheus may not have read its endpoint since the last change. So there are also a
file for node_exporter and a Pushgateway, which keep the values of a recipe's last run.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from flows.execute import StepResult
from flows.metrics import RunMetrics
from flows.planner import PlannedStep
from infra.errors import UserError
from infra.runs.run_records import CANCELLED, COMPLETED, FAILED

ENV_VAR = "GRISTMILL_METRICS"
FORMS = "listen:HOST:PORT, file:FOLDER, push:URL"


@dataclass(frozen=True)
class Target:
    """One place where metrics go: the form, and the address or folder after its colon."""

    form: Literal["listen", "file", "push"]
    where: str

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where an endpoint listens."""
        url = urlsplit(f"//{self.where}")
        return url.hostname or "", url.port or 0

    @property
    def shown(self) -> str:
        """The target without a user name and a password."""
        if self.form != "push":
            return f"{self.form}:{self.where}"
        url = urlsplit(self.where)
        return f"push:{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def metrics_targets() -> list[Target]:
    """Return where the metrics of runs of this machine go; nowhere by default.

    Raises:
        UserError: if ``GRISTMILL_METRICS`` is wrong, or its folder cannot be written to.
    """
    return [_parse(text) for text in os.environ.get(ENV_VAR, "").replace(",", " ").split()]


@contextmanager
def export_metrics(metrics: RunMetrics, recipe: str) -> Iterator[None]:
    """Publish the metrics of a run while the block lasts, and their last values at its end.

    Raises:
        UserError: if ``GRISTMILL_METRICS`` is wrong, or an address cannot be listened on.
    """
    with ExitStack() as stack:
        if targets := metrics_targets():
            from flows.prometheus import new_registry, push, serve, write_file

            registry = new_registry(metrics)
            for target in targets:
                if target.form == "listen":
                    stack.enter_context(serve(registry, target))
                elif target.form == "file":
                    stack.enter_context(write_file(registry, target, recipe))
                else:
                    stack.enter_context(push(registry, target, recipe))
        try:
            yield
        except BaseException as error:
            metrics.run_finished(FAILED if isinstance(error, Exception) else CANCELLED)
            raise


def publish_cached_run(recipe: str, steps: Iterable[PlannedStep]) -> None:
    """Publish the metrics of a run that ends before it starts, because every data set exists."""
    metrics = RunMetrics(recipe)
    with export_metrics(metrics, recipe):
        for step in steps:
            metrics.step_started(step.stage, step.entry or step.source)
            if step.dataset is not None and step.folder is not None:
                metrics.step_finished(
                    StepResult(
                        step.stage, step.source, step.entry, step.folder, step.dataset, 0.0, True
                    )
                )
        metrics.run_finished(COMPLETED)


def _parse(text: str) -> Target:
    form, _, where = text.partition(":")
    match form:
        case "listen":
            target = Target(form, where)
            try:
                host, port = target.host_and_port
            except ValueError:  # the port is no number
                host, port = "", 0
            if not (host and port):
                raise UserError(
                    f"{ENV_VAR}: {text!r} has no host and port, as in listen:127.0.0.1:9464"
                )
            return target
        case "file":
            if not (Path(where).is_dir() and os.access(where, os.W_OK)):
                raise UserError(f"{ENV_VAR}: {where!r} is not a folder that this user can write to")
            return Target(form, where)
        case "push":
            url = urlsplit(where)
            if url.scheme not in ("http", "https") or not url.hostname:
                raise UserError(
                    f"{ENV_VAR}: after push: comes a URL, as in push:http://127.0.0.1:9091"
                )
            return Target(form, where)
    raise UserError(f"{ENV_VAR}: {text!r} is none of {FORMS}")
