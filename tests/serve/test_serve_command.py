"""``gristmill serve`` with a real model, and the clients that people use."""

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openai
import psutil
import pytest
import torch

from infra.registry.history import promote
from infra.registry.versions import PASSED, Version, register_version
from infra.store.storage import Storage
from lm.models.hf_auto import load_with_tokenizer
from lm.scoring.huggingface import HuggingFaceModel
from tests.environments import LM_EVAL, interpreter
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.lm.corpora import texts
from tests.serve.command import GRISTMILL, ServeCommand, serve_command
from tests.serve.released import EOS, Releases

pytestmark = pytest.mark.e2e
LANGCHAIN = (
    "langchain-openai==1.7.4",
    "langchain-core==1.8.3",
    "langchain-protocol==0.0.20",
    "langsmith==0.15.1",
    "requests-toolbelt==1.0.0",
    "uuid-utils==0.19.0",
    "distro==1.9.0",
)
BOTH = ("tenacity==9.2.1", "tiktoken==0.14.0")
RECIPE = """
name: small
storage: {storage}
sources: [{{name: site, kind: documents, paths: [x.jsonl]}}]
"""


@pytest.fixture(scope="module")
def served(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeCommand]:
    folder = tmp_path_factory.mktemp("serve")
    shutil.copytree(releases("llama"), folder / "tiny")
    (folder / "tiny" / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    with serve_command(folder, str(folder / "tiny"), "--slots", "4") as running:
        yield running


@pytest.fixture(scope="module")
def client(served: ServeCommand) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_the_openai_client_completes_streams_and_chats(
    served: ServeCommand, client: openai.OpenAI, releases: Releases
) -> None:
    [model] = client.models.list().data
    assert model.id == "tiny"
    assert served.started["models"][0]["engine"] == "llama.cpp"
    loaded, tokenizer = load_with_tokenizer(releases("llama"))
    prompt = "the mill"
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        made = loaded.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    expected = tokenizer.decode(made, skip_special_tokens=True)
    options: dict[str, Any] = {"model": "tiny", "max_tokens": 12, "temperature": 0}
    answer = client.completions.create(prompt=prompt, logprobs=2, **options)
    assert answer.choices[0].text == expected
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(made)
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.token_logprobs or []) == len(made)
    chunks = list(client.completions.create(prompt=prompt, stream=True, **options))
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}], **options}
    assert client.chat.completions.create(**chat).choices[0].message.content == expected
    parts = client.chat.completions.create(stream=True, logprobs=True, top_logprobs=2, **chat)
    texts = [part.choices[0].delta.content or "" for part in parts]
    assert "".join(texts) == expected
    vector = client.embeddings.create(model="tiny", input=["one", "two"]).data[1].embedding
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-3)


def test_the_openai_client_understands_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as too_long:
        client.completions.create(model="tiny", prompt="x", max_tokens=4000)
    assert too_long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as unknown:
        client.completions.create(model="tiny", prompt="x", suffix="y")
    assert unknown.value.param == "suffix"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="x")


def test_many_asynchronous_clients_get_what_one_gets(served: ServeCommand) -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:

            async def ask(seed: int) -> str:
                answer = await client.completions.create(
                    model="tiny", prompt="the mill", max_tokens=20, seed=seed % 4, logprobs=0
                )
                return answer.choices[0].text

            return list(await asyncio.gather(*[ask(number) for number in range(24)]))

    texts = asyncio.run(run())
    assert len(set(texts)) == 4
    assert texts == texts[:4] * 6


@pytest.fixture(scope="module")
def clients(pytestconfig: pytest.Config) -> Path:
    """An interpreter with LangChain and lm-eval, each of which would slow every start of ours down."""
    return interpreter(pytestconfig, "serve-clients", (*LANGCHAIN, *LM_EVAL, *BOTH))


def run_client(python: Path, script: str, *arguments: str) -> Any:
    """Run a program of this folder; return the JSON of its last line."""
    path = Path(__file__).with_name(script)
    command = [str(python), str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_langchain_gets_what_the_openai_client_gets(
    served: ServeCommand, client: openai.OpenAI, clients: Path
) -> None:
    text = "the mill"
    answer = client.completions.create(model="tiny", prompt=text, max_tokens=12, temperature=0)
    expected, usage = answer.choices[0].text, answer.usage
    assert usage is not None
    got = run_client(clients, "client_langchain.py", f"{served.url}/v1", "tiny", text)
    for name in ("llm", "llm_stream", "llm_batch", "chat", "chat_stream"):
        assert got[name] == expected, name
    for name in ("usage", "stream_usage"):
        assert got[name]["input_tokens"] == usage.prompt_tokens
        assert got[name]["output_tokens"] == usage.completion_tokens
    again = client.completions.create(
        model="tiny", prompt=text + expected + text, max_tokens=12, temperature=0
    )
    assert got["history"] == again.choices[0].text
    assert got["logprobs"] == usage.completion_tokens
    vectors = client.embeddings.create(model="tiny", input=[text, text + text]).data
    assert got["documents"] == [pytest.approx(each.embedding, abs=1e-6) for each in vectors]
    assert got["query"] == pytest.approx(vectors[0].embedding, abs=1e-6)


def test_lm_eval_over_http_gets_the_log_likelihoods_of_our_scorer(
    served: ServeCommand, releases: Releases, clients: Path
) -> None:
    folder = releases("llama")
    pairs = [(text[:20].rstrip(), text[len(text[:20].rstrip()) : 60]) for text in texts(8)]
    model, tokenizer = load_with_tokenizer(folder)
    made = greedy_tokens(model, tokenizer.encode("the mill"), 3)
    pairs.append(("the mill", tokenizer.decode(made)))
    arguments = (f"{served.url}/v1", "tiny", str(folder), json.dumps(pairs))
    theirs = run_client(clients, "client_lm_eval.py", *arguments)

    def encode(text: str) -> npt.NDArray[np.uint16]:
        return np.array(tokenizer.encode(text), np.uint16)

    contexts = [encode(context) for context, _ in pairs]
    ours = HuggingFaceModel(folder, EOS).score_continuations(
        [
            (context, encode(before + after)[len(context) :])
            for context, (before, after) in zip(contexts, pairs, strict=True)
        ]
    )
    for own, (nats, is_greedy) in zip(ours, theirs["pairs"], strict=True):
        assert nats == pytest.approx(-own.nats, abs=1e-3)
        assert is_greedy == own.is_greedy
    assert theirs["pairs"][-1][1]
    scored = HuggingFaceModel(folder, EOS).score_texts(contexts)
    for own_nats, nats in zip(scored, theirs["texts"], strict=True):
        assert nats == pytest.approx(-float(own_nats.sum()), abs=1e-3)


def greedy_tokens(model: Any, ids: list[int], count: int) -> list[int]:
    with torch.no_grad():
        made = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False)
    return [int(token) for token in made[0, len(ids) :]]


def test_the_log_names_requests_and_never_their_text(served: ServeCommand) -> None:
    headers = {"X-Request-Id": "seen-1"}
    body = {"prompt": "the secret mill", "max_tokens": 3, "ignore_eos": True}
    served.client.post("/v1/completions", json=body, headers=headers)
    del body["ignore_eos"]
    served.client.post("/v1/completions", json=body, headers={"X-Request-Id": "seen-2"})
    wait_for(lambda: {"seen-1", "seen-2"} <= {line["request_id"] for line in served.requests()})
    lines = {line["request_id"]: line for line in served.requests()}
    assert lines["seen-1"]["status"] == 400
    line = lines["seen-2"]
    assert (line["route"], line["status"], line["model"]) == ("/v1/completions", 200, "tiny")
    assert line["generated_tokens"] <= 3
    assert line["first_token_s"] <= line["seconds"]
    assert "secret" not in served.log.read_text()


def version(export: str, digest: str) -> Version:
    return Version(
        number=0,
        recipe="small",
        model="tiny",
        subject=digest,
        weights=digest,
        state=PASSED,
        trained=f"train/{digest}",
        export=export,
        scores=(),
        run="1",
        created="2026-01-01T00:00:00+00:00",
        champion=None,
        on_pass="promote",
    )


def test_the_champion_of_a_recipe_is_followed_and_requests_are_finished_at_the_end(
    releases: Releases, tmp_path: Path
) -> None:
    store = Storage(str(tmp_path / "store"))
    versions = []
    for number, name in enumerate(("llama", "gpt2")):
        export = f"release/{name}-{number}"
        shutil.copytree(releases(name), tmp_path / "store" / export)
        versions.append(register_version(store, version(export, str(number))))
    promote(store, versions[0], by="test", reason="first")
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE.format(storage=store.url))
    arguments = (str(recipe), "champion", "2", "--poll", "0.2")
    with serve_command(tmp_path, *arguments) as served, ThreadPoolExecutor(2) as pool:

        def engines() -> dict[str, tuple[int, str]]:
            models = served.client.get("/v1/models").json()["data"]
            about = {model["id"]: model["gristmill"] for model in models}
            return {key: (item["version"], item["engine"]) for key, item in about.items()}

        assert engines() == {"tiny": (1, "llama.cpp"), "tiny@2": (2, "torch")}
        listed = served.client.get("/v1/models").json()["data"]
        assert [item["gristmill"]["alias"] for item in listed] == ["champion", None]
        promote(store, versions[1], by="test", reason="second")
        statuses = []

        def moved() -> bool:
            body = {"model": "tiny", "prompt": "the", "max_tokens": 5}
            statuses.append(served.client.post("/v1/completions", json=body).status_code)
            return engines()["tiny"] == (2, "torch")

        wait_for(moved)
        assert set(statuses) == {200}
        # Requests that run when it is told to stop get their answers.
        body = {"model": "tiny", "prompt": "the", "max_tokens": 55, "n": 20, "temperature": 2}
        answers = [pool.submit(served.client.post, "/v1/completions", json=body) for _ in range(2)]
        wait_for(lambda: "gristmill_requests_in_progress 2.0" in served.client.get("/metrics").text)
        children = psutil.Process(served.process.pid).children(recursive=True)
        served.process.send_signal(signal.SIGTERM)
        for answer in answers:
            assert len(answer.result(WAIT_TIMEOUT_S).json()["choices"]) == 20
        assert served.process.wait(WAIT_TIMEOUT_S) == 0
        assert "no longer answers" in served.log.read_text()
        assert not [child for child in children if child.is_running()]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nowhere",), "config.json"),
        (("nowhere", "3"), "VERSION"),
        (("nowhere", "--host", "0.0.0.0"), "--api-key-file"),
        (("nowhere", "--api-key-file", "missing.txt"), "missing.txt"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: tuple[str, ...], word: str) -> None:
    command = [GRISTMILL, "serve", *arguments, "--port", "0"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_TIMEOUT_S, check=False
    )
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert word in line


def test_a_port_that_is_taken_is_named(served: ServeCommand, tmp_path: Path) -> None:
    port = served.url.rsplit(":", 1)[1]
    command = [GRISTMILL, "serve", str(tmp_path), "--port", port]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_TIMEOUT_S, check=False
    )
    assert done.returncode == 1
    assert f"--port {port}" in done.stderr
