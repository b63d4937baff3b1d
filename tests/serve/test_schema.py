"""Requests that schemathesis makes from the schema of the endpoint, valid ones and others, to every kind of model: no 5xx."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lm.models.embedding.files import Vocabulary, WordVectors
from serve.api.app import create_app
from serve.api.limits import Limits
from serve.hub import Hub
from tests.lm.corpora import tokenizer
from tests.release.test_heads import export_of
from tests.serve.released import Releases
from tests.serve.served import TEMPLATE, Served, serving, source
from tests.serve.worker_thread import start_torch_engines, workers_on_threads

VALID, INVALID = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
EXAMPLES = {VALID: 10, INVALID: 4}  # per model and route
MAX_TOKENS = 8
NOT_SUPPORTED = {"unsupported_by_model", "no_chat_template"}
# What each route answers with 200, to be changed field by field.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "the mill"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "the mill"}]},
    "/v1/embeddings": {"input": "the mill"},
    "/v1/classify": {"input": "the mill"},
    "/v1/fill-mask": {"input": "the [MASK]"},
    "/tokenize": {"prompt": "the mill"},
    "/detokenize": {"tokens": [1, 2]},
}
HEADS = {"classification": "modernbert", "tagging": "llama", "embedding": "bert"}
LANGUAGE_MODELS = {"causal": "llama", "masked": "bert", "seq2seq": "t5"}


def word_vectors(folder: Path) -> Path:
    """Write vectors of two words."""
    vectors = np.array([[1, 0], [0, 2]], np.float32)
    config = {"unit": "word", "lowercase": True}
    WordVectors(Vocabulary(["crow", "mill"], [2, 1]), vectors, config).save(folder)
    (folder / "tokenizer.json").write_text(tokenizer().to_str())
    return folder


@pytest.fixture(scope="module")
def served(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An endpoint with a tiny model of every kind; the first one also has conversations."""
    root = tmp_path_factory.mktemp("kinds")
    for kind, name in LANGUAGE_MODELS.items():
        shutil.copytree(releases(name), root / kind)
    (root / "causal" / "chat_template.jinja").write_text(TEMPLATE)
    for task, architecture in HEADS.items():
        export_of(architecture, task, root / task)
    (root / "vectors").mkdir()
    word_vectors(root / "vectors")
    kinds = (*LANGUAGE_MODELS, *HEADS, "vectors")
    hub = Hub([source(kind, root / kind) for kind in kinds], start_torch_engines)
    with workers_on_threads(), serving(create_app(hub, Limits(max_tokens=MAX_TOKENS))) as running:
        yield running


@pytest.mark.filterwarnings("ignore")
def test_no_request_makes_a_model_fail(served: Served) -> None:
    models = served.client.get("/v1/models").json()["data"]
    own = {model["id"]: model["gristmill"]["routes"] for model in models}
    assert {route for routes in own.values() for route in routes} == set(BODIES)
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    result: Any
    for result in schema.get_all_operations():
        operation = result.ok()
        path = operation.path
        if path not in BODIES:
            assert "200" in send(operation, VALID, {})
            continue
        for model, routes in own.items():
            base = {**BODIES[path], "model": model}
            if path not in routes:
                response = served.client.post(path, json=base)
                assert code_of(response) in NOT_SUPPORTED
                continue
            assert "200" in send(operation, VALID, base), (path, model)
            refusals = send(operation, INVALID, {"model": model}) - {"200"}
            assert refusals - NOT_SUPPORTED, (path, model)


def code_of(response: Any) -> str:
    """Return the code of an error, or else the status."""
    if response.status_code == 200:
        return "200"
    assert response.status_code < 500
    code: str = response.json()["error"]["code"]
    return code


def send(operation: Any, mode: Any, base: dict[str, Any]) -> set[str]:
    """Send cases of an operation, and return the codes of the answers.

    Some of the fields of valid cases are put into ``base``, if there is one. Those that are mistakes get what
    ``base`` has, so that they reach the model that it names.
    """
    codes: set[str] = set()

    @given(operation.as_strategy(generation_mode=mode), st.data())
    @settings(
        max_examples=EXAMPLES[mode],
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def send_case(case: Any, data: st.DataObject) -> None:
        has_fields = isinstance(case.body, dict)
        if has_fields and mode == INVALID:
            case.body = {**case.body, **base}
        elif has_fields and base:
            names = sorted(case.body.keys() - {"model"})
            changed = data.draw(st.sets(st.sampled_from(names), max_size=2)) if names else set()
            case.body = {**base, **{name: case.body[name] for name in changed}}
        response = case.call()
        assert response.status_code < 500, case.as_curl_command()
        if has_fields or mode == VALID:
            codes.add(code_of(response))

    send_case()
    return codes
