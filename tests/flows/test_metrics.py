"""The metrics of a run, and where they go."""

import base64
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.execute import StepResult
from flows.metrics import METRICS, RunMetrics
from flows.metrics_targets import ENV_VAR, export_metrics, metrics_targets
from infra.compute.progress import Progress, WrittenParts
from infra.errors import UserError
from infra.runs.run_records import COMPLETED
from infra.store.storage import Storage
from tests.infra.test_unit_cache import build, context
from tests.limits import wait_for
from tests.processes import ROOT
from tests.servers import free_port, http_server

Samples = dict[tuple[str, ...], float]


def read_samples(text: str) -> Samples:
    """Parse Prometheus' text: a metric's name and the values of its labels, in their order."""
    declared = {metric.name: metric.labels for metric in METRICS}
    return {
        (sample.name, *(sample.labels[label] for label in declared[sample.name])): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def current(metrics: RunMetrics) -> Samples:
    """Return the present samples."""
    return {(name, *labels): value for name, labels, value in metrics.samples()}


@contextmanager
def gateway() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Run a server that keeps what is pushed to it: path, authorization, body."""
    pushed: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            pushed.append((self.path, self.headers["Authorization"] or "", body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with http_server(Handler) as address:
        yield address, pushed


def test_counters_follow_the_parts_and_gauges_the_committed_data_set(tmp_path: Path) -> None:
    metrics = RunMetrics("small")
    ctx = replace(context(Storage(str(tmp_path))), reporter=metrics)
    build(ctx, "one")  # the unit is reused below
    metrics = RunMetrics("small")
    ctx = replace(ctx, reporter=metrics)
    metrics.step_started("upper", "site")
    dataset = build(ctx, "one", "three")
    step = ("small", "upper", "site")
    assert current(metrics)["gristmill_steps", "small", "running"] == 1
    metrics.step_finished(StepResult("upper", "site", None, "upper/site-x", dataset, 2.0, False))
    samples = current(metrics)
    assert samples["gristmill_documents_total", *step, "kept", ""] == 1
    assert samples["gristmill_dataset_documents", *step, "kept", ""] == 2
    assert samples["gristmill_text_bytes_total", *step] == len("THREE")
    sizes = {Path(file.name).name: file.bytes for file in dataset.manifest.all_files}
    assert samples["gristmill_dataset_bytes", *step] == sum(sizes.values())
    assert 0 < samples["gristmill_written_bytes_total", *step] < sum(sizes.values())
    assert samples["gristmill_stage_units", *step] == 2
    assert samples["gristmill_stage_units_completed", *step] == 2
    assert samples["gristmill_steps", "small", "running"] == 0
    assert samples["gristmill_steps", "small", "completed"] == 1


def test_drops_failures_and_attempts_are_counted_by_reason() -> None:
    metrics = RunMetrics("small")
    metrics.step_started("select", None)
    written = WrittenParts(7, {"language": 2, "near_duplicate": 1}, {"ValueError": 1}, 70, 90)
    metrics.update(Progress("select", None, 1, 4, written=written))
    metrics.step_failed("select", None)
    samples = current(metrics)
    outcomes = {key[4:]: n for key, n in samples.items() if key[0] == "gristmill_documents_total"}
    assert outcomes == {
        ("kept", ""): 7,
        ("dropped", "language"): 2,
        ("dropped", "near_duplicate"): 1,
        ("failed", "ValueError"): 1,
    }
    assert samples["gristmill_step_failures_total", "small", "select", ""] == 1
    assert samples["gristmill_steps", "small", "failed"] == 1
    metrics.step_started("select", None)
    assert current(metrics)["gristmill_steps", "small", "failed"] == 0
    assert current(metrics)["gristmill_step_failures_total", "small", "select", ""] == 1


def test_a_training_and_a_crawl_show_their_last_values() -> None:
    metrics = RunMetrics("small")
    for step, tokens in ((10, 4096.0), (20, 4096.0)):
        values = {"step": float(step), "loss": 5.0 - step / 10, "tokens": tokens}
        metrics.update(Progress("train", "tiny", step, 100, "", values))
    metrics.update(Progress("train", "tiny", 0, 100, "waiting"))  # keeps the values
    metrics.update(Progress("acquire", "site", 3, 9, "", {"fetched": 3.0, "queued": 5.0}))
    samples = current(metrics)
    assert samples["gristmill_train_loss", "small", "train", "tiny"] == 3.0
    assert samples["gristmill_train_step", "small", "train", "tiny"] == 20
    assert samples["gristmill_tokens_total", "small", "train", "tiny"] == 8192
    assert samples["gristmill_crawl_queued_pages", "small", "acquire", "site"] == 5


def test_each_target_gets_the_last_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = RunMetrics("small")
    port = free_port()
    with gateway() as (address, pushed):
        targets = f"listen:127.0.0.1:{port}, file:{tmp_path} push:http://ann:s3cret@{address}"
        monkeypatch.setenv(ENV_VAR, targets)
        with export_metrics(metrics, "small"):
            wait_for(lambda: pushed)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                served = read_samples(answer.read().decode())
            assert served["gristmill_run_state", "small", "running"] == 1
            metrics.run_finished(COMPLETED)
        path, authorization, body = pushed[-1]
    assert path == "/metrics/job/gristmill/recipe/small"
    assert base64.b64decode(authorization.removeprefix("Basic ")) == b"ann:s3cret"
    (file,) = tmp_path.iterdir()
    assert file.name == "gristmill_small.prom"
    for text in (body, file.read_text()):
        assert read_samples(text)["gristmill_run_state", "small", "completed"] == 1


def test_a_gateway_that_is_away_and_a_taken_port_stop_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = free_port()
    with gateway() as (taken, _):
        monkeypatch.setenv(ENV_VAR, f"listen:{taken},push:http://u:s3cret@127.0.0.1:{away}")
        with export_metrics(RunMetrics("small"), "small"):
            pass
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert taken in caplog.text
    assert str(away) in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "value",
    [
        "127.0.0.1:9464",
        "listen:9464",
        "listen:127.0.0.1:http",
        "file:/no/such/folder",
        "push:gateway:9091",
        "listen:127.0.0.1:9464 tcp:x",
    ],
)
def test_a_wrong_target_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(ENV_VAR, value)
    with pytest.raises(UserError, match=ENV_VAR):
        metrics_targets()


def test_an_address_of_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_VAR, "listen:192.0.2.1:9464")
    with pytest.raises(UserError, match=ENV_VAR), export_metrics(RunMetrics("small"), "small"):
        pass


def test_no_metrics_are_exported_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV_VAR, raising=False)
    assert metrics_targets() == []


def test_the_page_lists_every_metric() -> None:
    page = (ROOT / "docs" / "watch.md").read_text()
    rows = [f"| `{m.name}` | {m.kind} | {', '.join(m.labels)} | {m.help} |" for m in METRICS]
    assert [line for line in page.splitlines() if line.startswith("| `gristmill_")] == rows
