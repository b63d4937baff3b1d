"""The log of a run as JSON lines, and the variables that turn on JSON and traces."""

import json
import logging
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from cli.plan import plan
from flows.console import JsonConsole, new_console
from flows.logs import filter_logs
from flows.tracing import is_tracing_wanted, start_tracing
from infra.compute.progress import Progress
from infra.errors import UserError
from infra.log_format import ENV_VAR, is_json_format, set_run_fields, step_fields
from infra.store.environment import expand


def lines(text: str) -> list[dict[str, Any]]:
    """Parse JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_records_name_their_run_and_step_and_hide_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ENV_VAR, "json")
    monkeypatch.setenv("LOGS_TEST_TOKEN", "s3cret-token")
    expand("${LOGS_TEST_TOKEN}")
    with filter_logs():
        logging.getLogger("a.library").warning("before the run has its id")
        set_run_fields(recipe="small", run="20261129-1")
        with step_fields(stage="train", source="tiny"), step_fields(dataset="train/tiny-1"):
            try:
                raise ValueError("with s3cret-token")
            except ValueError:
                logging.getLogger("lm.launch").exception("failed: %s", "s3cret-token")
        logging.getLogger("flows").warning("after the step")
    logging.getLogger("flows").warning("after the run")
    text = capsys.readouterr().err
    first, failed, after, *rest = lines(text[: text.rindex("}") + 1])
    assert rest == []
    assert first["message"] == "before the run has its id"
    assert "run" not in first
    assert (failed["level"], failed["logger"]) == ("error", "lm.launch")
    assert (failed["run"], failed["stage"], failed["source"]) == ("20261129-1", "train", "tiny")
    assert failed["dataset"] == "train/tiny-1"
    assert failed["message"] == "failed: ${LOGS_TEST_TOKEN}"
    assert "ValueError" in failed["exception"]
    assert "s3cret" not in text
    assert after["recipe"] == "small"
    assert "stage" not in after


def test_progress_and_warnings_are_json_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ENV_VAR, "json")
    monkeypatch.setattr(JsonConsole, "INTERVAL_S", 0.0)
    console = new_console()
    console.warn("num_processes: 64 is more than this machine has")
    console.update(Progress("acquire", "site", 3, 9, "3 pages fetched"))
    warning, progress = lines(capsys.readouterr().err)
    assert warning["message"].startswith("num_processes")
    assert (progress["stage"], progress["source"]) == ("acquire", "site")
    assert (progress["completed"], progress["total"]) == (3, 9)


def test_text_is_the_default_and_an_unknown_format_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(ENV_VAR, raising=False)
    assert not is_json_format()
    monkeypatch.setenv(ENV_VAR, "yaml")
    with pytest.raises(UserError, match=ENV_VAR):
        is_json_format()


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_standard_variables_turn_traces_on(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool
) -> None:
    for name in ("EXPORTER_OTLP_ENDPOINT", "EXPORTER_OTLP_TRACES_ENDPOINT", "TRACES_EXPORTER"):
        monkeypatch.delenv(f"OTEL_{name}", raising=False)
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_tracing_wanted() == wanted


def test_an_exporter_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UserError, match=r"gristmill\[otel\]"):
        start_tracing()


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(UserError, match="grpc"):
        start_tracing()


def test_the_error_that_ends_a_command_is_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_VAR, "json")
    result = CliRunner().invoke(plan, ["no-such-recipe.yaml"])
    assert result.exit_code == 1
    (line,) = lines(result.stderr)
    assert line["level"] == "error"
    assert "no-such-recipe.yaml" in line["message"]
