"""Texts become tokens beside everything else, and those that no context can hold are refused before."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from infra.formats.byte_level import ALPHABET
from lm.models.model_kind import SEQ2SEQ
from serve.api.app import create_app
from serve.api.endpoint import LengthFields, limit_tokens
from serve.api.errors import ApiError
from serve.api.limits import Limits
from serve.hub import Hub
from serve.models import SOURCE_ROOM, ServedModel, load_served_model
from serve.text.length_bound import LengthBound
from tests.limits import SCALE, WAIT_TIMEOUT_S
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

HELD_S = 60 * SCALE  # for which a text is not tokenized, unless the endpoint answers meanwhile
LONG = "x" * 50_000
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "parrot")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    hub = Hub([source("parrot", folder)], starter({"parrot": Parrot()}))
    with serving(create_app(hub, Limits(max_tokens=150))) as running:
        yield running


@pytest.mark.parametrize(
    ("route", "body", "num_tokens"),
    [
        ("/v1/completions", {"prompt": "hey", "max_tokens": 1}, 3),
        (CHAT, {"messages": [{"role": "user", "content": "hey"}], "max_tokens": 1}, 10),
        ("/tokenize", {"prompt": "hey"}, 3),
    ],
)
def test_the_endpoint_answers_while_a_text_is_tokenized(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    route: str,
    body: dict[str, Any],
    num_tokens: int,
) -> None:
    started, answered = threading.Event(), threading.Event()
    tokenize = ServedModel.tokenize

    def wait_and_tokenize(*args: Any, **options: Any) -> list[int]:
        started.set()
        assert answered.wait(HELD_S)
        return tokenize(*args, **options)

    monkeypatch.setattr(ServedModel, "tokenize", wait_and_tokenize)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.post, route, **body)
        assert started.wait(WAIT_TIMEOUT_S)
        assert served.client.get("/health").status_code == 200
        answered.set()
        result = answer.result(WAIT_TIMEOUT_S)
    assert (
        result["count"] if route == "/tokenize" else result["usage"]["prompt_tokens"]
    ) == num_tokens


def test_other_threads_run_while_a_text_is_tokenized(folder: Path) -> None:
    model = load_served_model(folder, "parrot")
    steps = 0
    with ThreadPoolExecutor(1) as pool:
        tokens = pool.submit(model.tokenize, "x y" * 100_000)
        while not tokens.done():
            steps += 1
            threading.Event().wait(0.001)
        assert len(tokens.result()) == 300_000
    assert steps > 5


@pytest.mark.parametrize(
    ("route", "field", "body"),
    [
        ("/v1/completions", "prompt", {"prompt": ["x", LONG]}),
        (CHAT, "messages", {"messages": [{"role": "user", "content": LONG}]}),
    ],
)
def test_a_text_that_no_context_holds_is_refused_before_it_is_tokenized(
    served: Served, monkeypatch: pytest.MonkeyPatch, route: str, field: str, body: dict[str, Any]
) -> None:
    monkeypatch.delattr(ServedModel, "tokenize")
    response = served.post(route, **body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (field, "context_length_exceeded")


FULL = {"messages": [{"role": "user", "content": "x" * (CONTEXT - len("user: \n"))}]}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("messages", {"messages": [{"role": "user", "content": "x" * CONTEXT}]}),
        ("messages", FULL),
        ("messages", {**FULL, "max_tokens": 1}),
        ("max_tokens", {"max_tokens": CONTEXT}),
        ("max_completion_tokens", {"max_completion_tokens": CONTEXT}),
        ("max_completion_tokens", {"max_completion_tokens": 151}),
    ],
)
def test_an_error_of_the_context_names_the_field_of_the_request(
    served: Served, field: str, change: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": "hi"}]
    response = served.post(CHAT, **{"messages": messages, **change})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, field)
    assert error["message"].startswith(f"{field}:")


def test_an_encoder_decoder_has_a_context_for_each_of_prompt_and_output(folder: Path) -> None:
    model = replace(load_served_model(folder, "parrot"), kind=SEQ2SEQ.name)
    fields, limits = LengthFields("prompt", "max_tokens"), Limits()
    longest = CONTEXT + SOURCE_ROOM
    assert limit_tokens(longest, CONTEXT, None, model, limits, fields) == CONTEXT
    assert limit_tokens(longest, None, None, model, limits, fields) == CONTEXT
    for num_prompt, wanted, field, number in (
        (longest + 1, 1, "prompt", longest),
        (5, CONTEXT + 1, "max_tokens", CONTEXT),
    ):
        with pytest.raises(ApiError) as refused:
            limit_tokens(num_prompt, wanted, None, model, limits, fields)
        assert refused.value.param == field
        assert str(number) in refused.value.detail


def tokenizer_with(**parts: Any) -> Tokenizer:
    tokenizer = byte_tokenizer()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


def bytes_after_nfc() -> Tokenizer:
    """A token per byte of the normalized text, and no others: some texts have more bytes than tokens."""
    tokenizer = Tokenizer(models.BPE({char: byte for byte, char in enumerate(ALPHABET)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


NFC = bytes_after_nfc()
text = (
    st.text(st.sampled_from("ab<|endoftext|> €\u212a\u0323\u0301\U0001f600"), max_size=30)
    | st.text()
)


@given(text)
@pytest.mark.parametrize("tokenizer", [byte_tokenizer(), NFC], ids=["plain", "nfc"])
def test_no_text_has_fewer_tokens_than_its_bound(tokenizer: Tokenizer, text: str) -> None:
    for each in (text, text + "<|endoftext|>" * 3):
        assert LengthBound(tokenizer).min_tokens(each) <= len(tokenizer.encode(each).ids)


def test_the_bound_counts_the_bytes_of_the_longest_token() -> None:
    assert len("<|endoftext|>") == 13
    assert LengthBound(byte_tokenizer()).min_tokens("€" * 13) == 3
    assert LengthBound(byte_tokenizer()).min_tokens("x" * 14) == 2
    assert LengthBound(NFC).min_tokens("€" * 13) == 39


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": normalizers.Lowercase()},
        {"pre_tokenizer": pre_tokenizers.Whitespace()},
        {"pre_tokenizer": pre_tokenizers.Split("x", "removed")},
        {"pre_tokenizer": pre_tokenizers.Split("x", "isolated")},
        {"model": models.WordLevel({char: i for i, char in enumerate(ALPHABET)}, ALPHABET[0])},
        {"model": models.WordPiece({char: i for i, char in enumerate(ALPHABET)})},
    ],
    ids=["normalizer", "pre-tokenizer", "split", "characters", "words", "pieces"],
)
def test_a_tokenizer_that_drops_text_or_has_tokens_of_any_length_has_no_bound(
    parts: dict[str, Any],
) -> None:
    assert LengthBound(tokenizer_with(**parts)).min_tokens("y" * 100) == 0


def test_a_token_that_takes_the_spaces_around_it_has_no_bound() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True)])
    assert LengthBound(tokenizer).min_tokens("y" * 100) == 0
