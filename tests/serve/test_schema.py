"""Requests that schemathesis makes from the schema of the endpoint, valid ones and others: no 5xx."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from serve.api.app import create_app
from serve.api.limits import Limits
from serve.hub import Hub
from tests.serve.served import Parrot, model_folder, serving, source, starter

EXAMPLES = 15  # per operation and mode


@pytest.mark.filterwarnings("ignore")
def test_no_request_makes_the_endpoint_fail(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "parrot")
    hub = Hub([source("parrot", folder)], starter({"parrot": Parrot("ab")}))
    statuses: dict[str, set[int]] = {}
    with serving(create_app(hub, Limits())) as served:
        schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        found: Any
        for found in schema.get_all_operations():
            operation = found.ok()
            seen = statuses.setdefault(operation.path, set())
            _send_examples(operation, schemathesis.GenerationMode.POSITIVE, seen)
            if operation.method.upper() == "POST":  # nothing can be wrong with the others
                _send_examples(operation, schemathesis.GenerationMode.NEGATIVE, seen)
    answered = {status for seen in statuses.values() for status in seen}
    assert {200, 400} <= answered
    assert not [status for status in answered if status >= 500]
    assert 200 in statuses["/v1/completions"]


def _send_examples(operation: Any, mode: Any, seen: set[int]) -> None:
    @given(operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any) -> None:
        response = case.call()
        seen.add(response.status_code)
        assert response.status_code < 500, case.as_curl_command()

    send()
