"""A run as its operator watches it: bars in a terminal, a real Prometheus and Pushgateway, a trace."""

import gzip
import json
import os
import pty
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from flows.metrics import METRICS
from tests.e2e.command import GRISTMILL, environment, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.limits import wait_for
from tests.processes import ROOT, process_tree
from tests.servers import free_port, http_server, server
from tests.train_entry import train_entry

pytestmark = pytest.mark.e2e

COLUMNS, LINES = 80, 24
DASHBOARD = ROOT / "infra" / "deploy" / "grafana" / "gristmill.json"


@dataclass
class Collector:
    """An OTLP endpoint: its address, and the spans it has received."""

    url: str = ""
    services: set[str] = field(default_factory=set)
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True)
class WatchedRun:
    """What was seen of a run: its JSON, its terminal, Prometheus' address, its file of metrics, its spans."""

    value: dict[str, Any]
    terminal: str
    prometheus: str
    file: str
    collector: Collector

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression in Prometheus."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/query?{query}") as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result

    def values(self, expression: str) -> dict[str, float]:
        """Evaluate an expression of one label."""
        return {
            "".join(sample["metric"].values()): float(sample["value"][1])
            for sample in self.query(expression)
        }


@contextmanager
def otlp_collector() -> Iterator[Collector]:
    """Run an OTLP receiver over HTTP."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            for group in request.resource_spans:
                collector.services |= {
                    item.value.string_value
                    for item in group.resource.attributes
                    if item.key == "service.name"
                }
                collector.spans += [span for scope in group.scope_spans for span in scope.spans]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with http_server(Handler) as address:
        collector.url = f"http://{address}"
        yield collector


@contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[str]:
    """Run Prometheus, which scrapes these ports by job; yield its address."""
    jobs = [
        {
            "job_name": job,
            "scrape_interval": "250ms",
            "honor_labels": True,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
        for job, port in targets.items()
    ]
    config = write_recipe(folder / "prometheus.yml", {"scrape_configs": jobs})
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    url = f"http://127.0.0.1:{port}"
    with server(command, folder / "prometheus.log", f"{url}/-/ready"):
        yield url


def program(name: str) -> str:
    """Return the path of a program that scripts/system-deps.sh installs."""
    path = shutil.which(name)
    assert path is not None, f"{name} is missing: run scripts/system-deps.sh"
    return path


def run_in_terminal(command: list[str], env: dict[str, str]) -> tuple[str, str]:
    """Run a command whose standard error is a terminal; return its output and what it drew."""
    controller, terminal = pty.openpty()
    os.set_blocking(controller, True)
    drawn: list[bytes] = []

    def read() -> None:
        while True:
            try:
                drawn.append(os.read(controller, 65536))
            except OSError:  # the other end is closed
                return

    size = {"COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "xterm-256color"}
    reader = threading.Thread(target=read)
    with process_tree(command, {**env, **size}, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        reader.start()
        out, _ = process.communicate()
    reader.join()
    os.close(controller)
    text = b"".join(drawn).decode()
    assert process.returncode == 0, text
    return out.decode(), text


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedRun]:
    folder = tmp_path_factory.mktemp("watch")
    tiny = train_entry(
        precision="fp32",
        name="tiny",
        num_layers=1,
        hidden_size=16,
        num_heads=1,
        context_length=64,
        train_tokens=10_000,
        num_processes=1,
        log_interval=1,
    )
    value = recipe(folder / "data", mixed(folder / "in"), cluster={"workers": 0}, train=[tiny])
    path = write_recipe(folder / "small.yaml", value)
    (folder / "textfile").mkdir()
    endpoint, gateway = free_port(), free_port()
    push = [program("prometheus-pushgateway"), f"--web.listen-address=127.0.0.1:{gateway}"]
    ready = f"http://127.0.0.1:{gateway}/-/ready"
    with ExitStack() as stack:
        stack.enter_context(server(push, folder / "gateway.log", ready))
        targets = {"runs": endpoint, "pushgateway": gateway}
        url = stack.enter_context(prometheus(folder, targets))
        collector = stack.enter_context(otlp_collector())
        metrics = (
            f"listen:127.0.0.1:{endpoint},file:{folder}/textfile,push:http://127.0.0.1:{gateway}"
        )
        env = environment(
            folder / "home", GRISTMILL_METRICS=metrics, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url
        )
        command = [str(GRISTMILL), "run", str(path), "--json"]
        out, terminal = run_in_terminal(command, env)
        file = (folder / "textfile" / "gristmill_small.prom").read_text()
        run = WatchedRun(json.loads(out), terminal, url, file, collector)
        ended = 'gristmill_run_state{state="completed"}'
        wait_for(lambda: run.query(ended))
        yield run


def test_a_terminal_shows_a_bar_per_running_step_and_a_line_per_finished_one(
    watched: WatchedRun,
) -> None:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", watched.terminal)
    lines = re.split(r"[\r\n]+", text)
    drawn = [line for line in lines if "━" in line]
    assert any(re.search(r"train tiny +━+ +[1-9]\d*/\d+ .*left .*loss \d", line) for line in drawn)
    assert any(re.search(r"dedup +━+ .*so far", line) for line in drawn)
    assert all(len(line.rstrip()) <= COLUMNS for line in drawn)
    for stage in watched.value["stages"]:
        finished = re.compile(rf" +\d+:\d\d  {stage['stage']} .* {stage['kept']:,} kept")
        assert any(map(finished.match, lines)), stage["stage"]
    assert watched.terminal.rindex("\x1b[?25h") > watched.terminal.rindex("\x1b[?25l"), "no cursor"


def test_prometheus_has_the_counts_of_the_run(watched: WatchedRun) -> None:
    for stage in watched.value["stages"]:
        labels = f'job="gristmill",stage="{stage["stage"]}"'
        pushed = f'gristmill_dataset_documents{{{labels},outcome="%s"}}'
        assert watched.values(f"sum by (stage) ({pushed % 'kept'})") == {
            stage["stage"]: stage["kept"]
        }
        for outcome in ("dropped", "failed"):
            assert watched.values(f"sum by (reason) ({pushed % outcome})") == stage[outcome]
    own = 'gristmill_documents_total{job="gristmill",outcome="dropped",stage="select"}'
    (select,) = (stage for stage in watched.value["stages"] if stage["stage"] == "select")
    assert watched.values(f"sum by (reason) ({own})") == select["dropped"]
    assert watched.values("max by (stage) (gristmill_tokens_total)").keys() == {"tokenize", "train"}
    assert watched.values("max(gristmill_train_loss)")[""] > 0
    assert watched.values('max by (state) (gristmill_steps{state!="running"})') == {
        "completed": len(watched.value["stages"]),
        "cached": 0,
        "failed": 0,
    }


def test_the_endpoint_was_scraped_while_the_run_lasted(watched: WatchedRun) -> None:
    seen = "count_over_time(gristmill_run_state{state='running',instance!=''}[1h])"
    assert max(watched.values(seen).values()) > 1


def test_the_file_passes_the_linter_of_prometheus(watched: WatchedRun) -> None:
    command = [program("promtool"), "check", "metrics"]
    checked = subprocess.run(
        command, check=False, input=watched.file, text=True, capture_output=True
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_query_of_the_dashboard_is_valid_and_finds_the_run(watched: WatchedRun) -> None:
    names = {metric.name for metric in METRICS}
    without_data = []
    targets = [t for panel in json.loads(DASHBOARD.read_text())["panels"] for t in panel["targets"]]
    for target in targets:
        expression = target["expr"]
        assert set(re.findall(r"gristmill_\w+", expression)) <= names
        for variable, value in (("$recipe", "small"), ("$__rate_interval", "1h")):
            expression = expression.replace(variable, value)
        assert "$" not in expression
        if not watched.query(expression):
            without_data.append(target["expr"])
    assert all("crawl" in expression for expression in without_data), without_data


def test_a_trace_has_a_span_per_step_and_per_batch_of_parts(watched: WatchedRun) -> None:
    spans = watched.collector.spans
    assert watched.collector.services == {"gristmill"}
    (root,) = (span for span in spans if not span.parent_span_id)
    assert root.name == "pipeline small: on demand"
    assert {span.trace_id for span in spans} == {root.trace_id}
    by_id = {span.span_id: span for span in spans}
    for stage in watched.value["stages"]:
        name = " ".join(filter(None, (stage["stage"], stage["source"] or stage["entry"])))
        (span,) = (span for span in spans if span.name == name)
        assert span.parent_span_id == root.span_id
        attributes = {item.key: item.value for item in span.attributes}
        assert attributes["gristmill.run"].string_value == watched.value["run"]
        assert attributes["gristmill.documents.kept"].int_value == stage["kept"]
        batches = [s for s in spans if s.name == f"{stage['stage']} batch"]
        assert {by_id[batch.parent_span_id].name for batch in batches} <= {name}
        for batch in batches:
            assert span.start_time_unix_nano <= batch.start_time_unix_nano
            assert batch.end_time_unix_nano <= span.end_time_unix_nano
    documents = [
        item.value.int_value
        for span in spans
        if span.name == "annotate batch"
        for item in span.attributes
        if item.key == "gristmill.documents"
    ]
    (annotate,) = (stage for stage in watched.value["stages"] if stage["stage"] == "annotate")
    assert sum(documents) == annotate["in"]
