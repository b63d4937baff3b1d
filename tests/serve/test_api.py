"""Completions and conversations as clients of OpenAI's API expect them, and every mistake with its field."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from serve.api.app import create_app
from serve.api.limits import Limits
from serve.hub import Hub
from tests.serve.served import (
    CONTEXT,
    Parrot,
    Served,
    byte_tokenizer,
    model_folder,
    serving,
    source,
    starter,
)

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def parrots() -> dict[str, Parrot]:
    return {"parrot": Parrot(), "plain": Parrot("x"), "greek": Parrot("αβγ€")}


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, parrots: dict[str, Parrot]
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    sources = [
        source("parrot", model_folder(folder / "parrot")),
        source("plain", model_folder(folder / "plain", chat=False), 3),
        source("greek", model_folder(folder / "greek")),
    ]
    hub = Hub(sources, starter(parrots))
    with serving(create_app(hub, Limits(max_body=20_000, max_tokens=150))) as running:
        yield running


def test_a_completion_has_text_reason_and_usage(served: Served) -> None:
    answer = served.post(COMPLETIONS, prompt="hey ", max_tokens=6, temperature=0)
    assert answer["object"] == "text_completion"
    assert answer["model"] == "parrot"
    assert answer["choices"] == [
        {"index": 0, "text": "hey he", "logprobs": None, "finish_reason": "length"}
    ]
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}


@pytest.mark.parametrize("stop", [None, "γ", ["€α", "zz"], ["β\N{GREEK SMALL LETTER GAMMA}€"]])
@pytest.mark.parametrize("logprobs", [None, 1])
def test_a_stream_gives_the_same_text_and_tokens(
    served: Served, stop: Any, logprobs: int | None
) -> None:
    body = {"model": "greek", "prompt": "x", "max_tokens": 20, "temperature": 0}
    body |= {"stop": stop, "logprobs": logprobs}
    whole = served.post(COMPLETIONS, **body)["choices"][0]
    *chunks, done = served.events(COMPLETIONS, **body)
    assert done == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    assert [choice["finish_reason"] for choice in choices][-1] == whole["finish_reason"]
    assert all(choice["finish_reason"] is None for choice in choices[:-1])
    if stop is not None:
        assert whole["finish_reason"] == "stop"
        assert "γ" not in whole["text"] or stop != "γ"
    if logprobs:
        for key in ("tokens", "token_logprobs", "text_offset"):
            streamed = [item for choice in choices for item in choice["logprobs"][key]]
            assert streamed == whole["logprobs"][key]
        assert whole["logprobs"]["tokens"][:2] == ["bytes:\\xce", "bytes:\\xb1"]
        assert whole["logprobs"]["text_offset"][:4] == [0, 0, 1, 1][: 2 * len(whole["text"])]


def test_usage_comes_last_in_a_stream_that_asks_for_it(served: Served) -> None:
    body: dict[str, Any] = {
        "prompt": "ab",
        "max_tokens": 3,
        "stream_options": {"include_usage": True},
    }
    *_, usage, done = served.events(COMPLETIONS, **body)
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 4
    assert done == "[DONE]"


def test_prompts_and_outputs_are_numbered(served: Served) -> None:
    ids = byte_tokenizer().encode("uv").ids
    body: dict[str, Any] = {"max_tokens": 4, "n": 2, "seed": 0}
    answer = served.post(COMPLETIONS, prompt=["xy", "pq"], **body)
    texts = [choice["text"] for choice in answer["choices"]]
    assert texts == ["xyxy", "yxyx", "pqpq", "qpqp"]  # the seeds 0 and 1
    assert answer["usage"]["completion_tokens"] == 16
    by_ids = served.post(COMPLETIONS, prompt=[ids, ids], **body)["choices"]
    assert [choice["text"] for choice in by_ids] == ["uvuv", "vuvu", "uvuv", "vuvu"]
    assert served.post(COMPLETIONS, prompt=ids, **body)["choices"][0]["text"] == "uvuv"
    streamed = [""] * 4
    for event in served.events(COMPLETIONS, prompt=["xy", "pq"], **body)[:-1]:
        choice = event["choices"][0]
        streamed[choice["index"]] += choice["text"]
    assert streamed == texts


def test_echo_gives_the_log_probabilities_of_the_prompt(served: Served) -> None:
    answer = served.post(COMPLETIONS, prompt="abc", max_tokens=0, echo=True, logprobs=2)
    choice = answer["choices"][0]
    assert choice["text"] == "abc"
    assert choice["logprobs"]["tokens"] == ["ab", "c"]
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0]
    assert choice["logprobs"]["top_logprobs"] == [None, {"ab": -0.25, "\x00": -2.0}]
    assert choice["logprobs"]["text_offset"] == [0, 2]
    assert answer["usage"]["completion_tokens"] == 0
    body = {"prompt": "abc", "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    choice = served.post(COMPLETIONS, **body)["choices"][0]
    assert choice["text"] == "abcab"
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -0.5]
    assert choice["logprobs"]["text_offset"] == [0, 2, 3]
    streamed = served.events(COMPLETIONS, **body)[:-1]
    offsets = [at for event in streamed for at in event["choices"][0]["logprobs"]["text_offset"]]
    assert offsets == [0, 2, 3]


def test_an_empty_prompt_begins_a_document(served: Served) -> None:
    answer = served.post(COMPLETIONS, prompt="", max_tokens=5, temperature=0)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def test_a_conversation_follows_its_template(served: Served) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be"},
        {"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]},
    ]
    prompt = "system: be\nuser: hi\n"
    body = {"messages": messages, "temperature": 0, "max_tokens": len(prompt)}
    answer = served.post(CHAT, logprobs=True, top_logprobs=1, **body)
    choice = answer["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": prompt, "refusal": None}
    first = choice["logprobs"]["content"][0]
    assert (first["token"], first["bytes"], first["logprob"]) == ("s", [115], -0.5)
    assert [item["token"] for item in first["top_logprobs"]] == ["s"]
    chunks = [event["choices"][0] for event in served.events(CHAT, **body)[:-1]]
    assert chunks[0]["delta"]["role"] == "assistant"
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == prompt
    assert chunks[-1]["finish_reason"] == "length"


def test_without_a_limit_a_conversation_fills_the_context(served: Served) -> None:
    message = {"role": "user", "content": "h" * 80}
    answer = served.post(CHAT, messages=[message], temperature=0)
    assert answer["usage"]["total_tokens"] == CONTEXT


def test_the_answer_of_a_client_is_its_next_message(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        messages: list[Any] = [{"role": "developer", "content": "be short", "name": "boss"}]
        messages.append({"role": "user", "content": "hi"})
        for _ in range(2):
            answer = client.chat.completions.create(
                model="greek", messages=messages, max_tokens=4, temperature=0
            )
            messages.append(answer.choices[0].message)
        given: list[Any] = [{"role": "system", "content": "be short"}, *messages[1:]]
        usage = [
            client.chat.completions.create(model="greek", messages=each, max_tokens=1).usage
            for each in (messages, given)
        ]
    assert usage[0] == usage[1]


def test_what_a_message_cannot_have_is_refused_unless_it_is_empty(served: Served) -> None:
    message = {"role": "user", "content": "hi"}
    empty: dict[str, Any] = {
        "refusal": None,
        "tool_calls": [],
        "function_call": None,
        "audio": None,
    }
    answer = served.post(CHAT, messages=[{**message, **empty, "annotations": []}], max_tokens=1)
    assert answer["choices"]
    for key, value in (("tool_calls", [{"id": "x"}]), ("refusal", "no"), ("other", "")):
        response = served.post(CHAT, messages=[{**message, key: value}])
        assert response.status_code == 400
        assert f"messages.0.{key}" in response.json()["error"]["message"]


def test_null_stands_for_the_default(served: Served) -> None:
    shared = ("model", "user", "temperature", "top_p", "top_k", "seed", "stop", "n", "stream")
    more = ("presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "sources")
    nulls = dict.fromkeys([*shared, *more, "stream_options"])
    legacy = dict.fromkeys(["max_tokens", "logprobs", "echo", "best_of", "suffix"])
    answer = served.post(COMPLETIONS, prompt="xy", **nulls, **legacy)
    assert answer["usage"]["completion_tokens"] == 16
    message = {"role": "user", "content": "hi", "name": None}
    limits = dict.fromkeys(["max_completion_tokens", "top_logprobs", "logprobs", "tools"])
    assert served.post(CHAT, messages=[message], max_tokens=2, **nulls, **limits)["choices"]
    usage = {"stream": True, "stream_options": {"include_usage": None}}
    assert served.client.post(COMPLETIONS, json={"prompt": "x", **usage}).status_code == 200
    response = served.post(COMPLETIONS, prompt=None)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"


def test_a_model_without_a_template_refuses_conversations(served: Served) -> None:
    message = {"role": "user", "content": "hi"}
    response = served.post(CHAT, model="plain", messages=[message])
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "no_chat_template"


@pytest.mark.parametrize(
    ("status", "param", "change"),
    [
        (400, "max_tokens", {"max_tokens": "abc"}),
        (400, "max_tokens", {"max_tokens": 0}),
        (400, "max_tokens", {"max_tokens": 151}),
        (400, "max_tokens", {"prompt": "x" * 190, "max_tokens": 11}),
        (400, "prompt", {"prompt": "x" * 201}),
        (400, "prompt", {"prompt": [1, 258]}),
        (400, "prompt", {"prompt": [1, -1]}),
        (400, "prompt", {"prompt": [True]}),
        (400, "prompt", {"prompt": []}),
        (400, "prompt", {"prompt": [[]]}),
        (400, "prompt", {"prompt": {"a": 1}}),
        (400, "prompt", {"prompt": ["a"] * 200, "n": 100}),
        (400, "suffix", {"suffix": "x"}),
        (400, "tools", {"tools": []}),
        (400, "best_of", {"best_of": 2}),
        (400, "temperature", {"temperature": 3}),
        (400, "temperature", {"temperature": "nan"}),
        (400, "temperature", {"temperature": "0.5"}),
        (400, "top_p", {"top_p": True}),
        (400, "top_p", {"top_p": 0}),
        (400, "stop", {"stop": ""}),
        (400, "stop", {"stop": ["x"] * 17}),
        (400, "logit_bias", {"logit_bias": {"999": 1}}),
        (400, "logit_bias", {"logit_bias": {"x": 1}}),
        (400, "logit_bias", {"logit_bias": {"²": 1}}),
        (400, "stream_options", {"stream_options": {"include_usage": True}}),
        (400, "stream_options", {"stream": True, "stream_options": {"other": True}}),
        (400, "logprobs", {"logprobs": 21}),
        (400, "logprobs", {"prompt": ["x" * 190] * 16, "n": 32, "echo": True, "logprobs": 10}),
        (404, "model", {"model": "other"}),
    ],
)
def test_a_mistake_is_named(
    served: Served, status: int, param: str, change: dict[str, Any]
) -> None:
    response = served.post(COMPLETIONS, **{"prompt": "x", "max_tokens": 2, **change})
    assert response.status_code == status
    error = response.json()["error"]
    assert error["param"] == param
    assert param in error["message"]
    assert error["type"] in ("invalid_request_error", "not_found_error")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"prompt": "\xff"}', None),
        (b"[" * 15_000, None),
        (b"[]", None),
        (b"", None),
        (b'{"prompt": "\\ud800"}', "invalid_value"),
        (b'{"\\ud800": 1, "prompt": "x"}', None),
        (b'{"prompt": "x", "seed": 1e999}', None),
        (b'{"prompt": "x", "temperature": NaN}', None),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", None),
    ],
)
def test_malformed_bodies_are_refused(served: Served, content: bytes, code: str | None) -> None:
    headers = {"content-type": "application/json"}
    response = served.client.post(COMPLETIONS, content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert code in (None, response.json()["error"]["code"])


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(served: Served) -> None:
    content = json.dumps({"prompt": "x" * 30_000}).encode()
    headers = {"content-type": "application/json"}
    parts = iter([content[:15_000], content[15_000:]])
    for body in (content, parts):
        response = served.client.post(COMPLETIONS, content=body, headers=headers)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"


def test_unknown_paths_and_methods_have_an_error_body(served: Served) -> None:
    for method, path, status in (("GET", "/v2", 404), ("GET", COMPLETIONS, 405)):
        response = served.client.request(method, path)
        assert response.status_code == status
        assert response.json()["error"]["type"].endswith("_error")


def test_a_request_has_an_id(served: Served) -> None:
    response = served.client.get("/health", headers={"X-Request-Id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert served.client.get("/health").headers["x-request-id"].startswith("req-")


def test_models_say_what_they_can(served: Served) -> None:
    models = served.client.get("/v1/models").json()["data"]
    by_id = {model["id"]: model["gristmill"] for model in models}
    assert list(by_id) == ["parrot", "plain", "greek"]
    assert by_id["parrot"]["chat"]
    assert not by_id["plain"]["chat"]
    assert by_id["plain"]["version"] == 3
    assert by_id["plain"]["engine"] == "parrot"
    assert COMPLETIONS in by_id["plain"]["routes"]
    assert CHAT not in by_id["plain"]["routes"]
    assert len(by_id["parrot"]["digest"]) == 64
    assert by_id["parrot"]["sources"] is False
    assert by_id["parrot"]["sources_error"]


def test_routes_of_other_kinds_of_models_say_so(served: Served) -> None:
    for route, body in (
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/classify", {"input": "x"}),
        ("/v1/fill-mask", {"input": "x"}),
    ):
        response = served.post(route, **body)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "unsupported_by_model"


def test_tokens_and_back(served: Served) -> None:
    answer = served.post("/tokenize", prompt="ab<|endoftext|>€")
    assert answer["tokens"][:2] == [257, 0]
    assert answer["count"] == 5
    assert served.post("/detokenize", tokens=answer["tokens"]) == {"prompt": "ab<|endoftext|>€"}


def test_metrics_count_requests_and_tokens(served: Served) -> None:
    name = 'gristmill_requests_total{route="/v1/completions",status="200"}'
    tokens = 'gristmill_generated_tokens_total{model="plain"}'
    before, generated = served.metric(name), served.metric(tokens)
    served.post(COMPLETIONS, model="plain", prompt="x", max_tokens=7)
    assert served.metric(name) == before + 1
    assert served.metric(tokens) == generated + 7
    assert served.metric('gristmill_time_to_first_token_seconds_count{model="plain"}') > 0
    assert served.metric('gristmill_slots{engine="parrot",model="plain"}') == 4
    assert served.metric("gristmill_requests_in_progress") == 0


def test_an_engine_that_dies_ends_its_requests_with_an_error(
    served: Served, parrots: dict[str, Parrot]
) -> None:
    parrots["plain"].fail_at = 0
    try:
        response = served.post(COMPLETIONS, model="plain", prompt="x")
        assert response.status_code == 503
        parrots["plain"].fail_at = 2
        *_, error = served.events(COMPLETIONS, model="plain", prompt="x")
        assert error["error"]["code"] == "engine_failed"
    finally:
        parrots["plain"].fail_at = None


def test_readiness(served: Served) -> None:
    assert served.client.get("/ready").json() == {"ready": True}
