"""llama.cpp behind the interface of engines gives what transformers give."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator, Awaitable
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from lm.models.hf_auto import load_model
from serve.api.app import create_app
from serve.api.limits import Limits
from serve.engines.interface import EngineError, Generation, Sampling, TokenScore
from serve.engines.llama_cpp import LlamaCppEngine, fold_seed
from serve.hub import Engines, Hub
from serve.models import ServedModel, load_served_model
from tests.limits import until, wait_for
from tests.serve.llama_slots import SERVER, find_llama_cpp, llama_cpp_client, read_slots
from tests.serve.released import EOS, VOCAB_SIZE, Releases, generate_greedily
from tests.serve.served import Parrot, serving, source

pytestmark = pytest.mark.e2e
SLOTS = 4
MANY_TOKENS = 4000  # seconds of work


@asynccontextmanager
async def started(folder: Path) -> AsyncGenerator[LlamaCppEngine, None]:
    served = load_served_model(folder, "tiny")
    engine = await LlamaCppEngine.start(served, slots=SLOTS, other=Parrot("ab"))
    try:
        yield engine
    finally:
        await engine.close()


async def collect(engine: LlamaCppEngine, generation: Generation) -> list[TokenScore]:
    async with aclosing(engine.generate(generation)) as scores:
        return [score async for score in scores]


GREEDY = Sampling(temperature=0)


LENGTHS, PROMPTS_PER_LENGTH, NEW_TOKENS = (1, 5, 17, 40), 25, 16


def draw_prompts() -> list[torch.Tensor]:
    """Return prompts, int64[PROMPTS_PER_LENGTH, T] for each length T."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randint(1, VOCAB_SIZE, (PROMPTS_PER_LENGTH, length), generator=generator)
        for length in LENGTHS
    ]


@pytest.mark.parametrize("name", ["llama", "llama-untied"])
def test_llama_cpp_gives_what_transformers_give(releases: Releases, name: str) -> None:
    """All in one process of llama.cpp: it takes a second to start."""
    folder = releases(name)
    model = load_model(folder)

    async def run() -> None:
        async with started(folder) as engine:
            await greedy_output_is_that_of_transformers(engine, model)
            await log_probabilities_are_those_of_the_model(engine, model)
            await the_context_can_be_filled(engine, model)
            await repetitions_are_penalized(engine, model)

    asyncio.run(run())


@pytest.mark.usefixtures("foreign_folder")
def test_sequences_in_llama_cpp_are_sampled_closed_and_cached(releases: Releases) -> None:
    async def run() -> None:
        async with started(releases("llama")) as engine:
            await a_seed_decides_a_sample(engine)
            await a_generation_that_is_closed_frees_its_slot(engine)
            await the_prefix_of_a_prompt_is_cached(engine)
            await what_llama_cpp_does_otherwise_goes_to_the_other_engine(engine)
            await what_it_logs_fills_no_disk(engine)
            await it_starts_again_after_it_has_died(engine)

    asyncio.run(run())


async def greedy_output_is_that_of_transformers(engine: LlamaCppEngine, model: Any) -> None:
    for prompts in draw_prompts():
        outputs = await asyncio.gather(
            *[
                collect(
                    engine, Generation(tuple(ids), NEW_TOKENS, GREEDY, stop_ids=frozenset([EOS]))
                )
                for ids in prompts.tolist()
            ]
        )
        ids = [[score.id for score in scores] for scores in outputs]
        assert ids == generate_greedily(model, prompts, NEW_TOKENS)
        assert outputs[0][0].logprob is None


async def log_probabilities_are_those_of_the_model(engine: LlamaCppEngine, model: Any) -> None:
    ids = [5, 17, 9, 200]
    bias = Sampling(temperature=0, logit_bias=((7, 100.0),))
    scores = await collect(engine, Generation(tuple(ids), 5, bias, num_top=3))
    assert [score.id for score in scores] == [7] * 5
    with torch.no_grad():
        logits = model(torch.tensor([ids + [7] * 5])).logits[0].log_softmax(-1)
    for step, score in enumerate(scores):
        row = logits[len(ids) - 1 + step]
        assert score.logprob == pytest.approx(float(row[7]), abs=1e-3)
        assert [token for token, _ in score.top] == row.topk(3).indices.tolist()
        assert score.top[0][1] == pytest.approx(float(row.max()), abs=1e-3)


async def the_context_can_be_filled(engine: LlamaCppEngine, model: Any) -> None:
    size = engine.context_length
    scores = await collect(engine, Generation((5, 6, 7), size - 3, GREEDY))
    assert len(scores) == size - 3
    scores = await collect(engine, Generation((5,) * (size - 1), 1, GREEDY))
    [expected] = generate_greedily(model, torch.full((1, size - 1), 5), 1)
    assert [score.id for score in scores] == expected


async def a_seed_decides_a_sample(engine: LlamaCppEngine) -> None:
    def sample(seed: int, **changes: float) -> Awaitable[list[TokenScore]]:
        return collect(engine, Generation((9, 8), 20, Sampling(seed=seed, **changes)))  # type: ignore[arg-type]

    first, again, other = await asyncio.gather(sample(1), sample(1), sample(2))
    assert first == again
    assert first != other
    assert (await sample(1, top_k=1)) == (await collect(engine, Generation((9, 8), 20, GREEDY)))


async def repetitions_are_penalized(engine: LlamaCppEngine, model: Any) -> None:
    ids = [5, 17, 9, 200]
    with torch.no_grad():
        row = model(torch.tensor([ids])).logits[0, -1]
    for token in set(ids):
        row[token] = row[token] / 5 if row[token] > 0 else row[token] * 5
    sampling = Sampling(temperature=0, repetition_penalty=5.0)
    [score] = await collect(engine, Generation(tuple(ids), 1, sampling))
    assert score.id == int(row.argmax())


async def a_generation_that_is_closed_frees_its_slot(engine: LlamaCppEngine) -> None:
    for _ in range(3 * SLOTS):
        async with aclosing(engine.generate(Generation((4,), 50, GREEDY))) as scores:
            async for _score in scores:
                break
    assert engine.load().running == 0
    child = find_llama_cpp()
    child.suspend()  # otherwise it may be done before they are canceled
    running = [
        asyncio.create_task(collect(engine, Generation((4,), 50, GREEDY))) for _ in range(SLOTS + 1)
    ]
    await until(lambda: (engine.load().running, engine.load().waiting) == (SLOTS, 1))
    for task in running[:-1]:
        task.cancel()
    child.resume()
    assert len(await running[-1]) == 50
    assert (engine.load().running, engine.load().waiting) == (0, 0)


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_go_free_the_slots_of_llama_cpp(releases: Releases, stream: bool) -> None:
    """By llama.cpp's own word, for clients that read a stream and for those that wait for a whole answer."""
    folder = releases("llama-long")

    async def start(model: ServedModel) -> Engines:
        return Engines(await LlamaCppEngine.start(model, slots=SLOTS, other=Parrot("ab")), None)

    limits = Limits(slots=SLOTS, max_tokens=MANY_TOKENS)
    hub = Hub([source("tiny", folder)], start)
    with serving(create_app(hub, limits)) as served, llama_cpp_client(find_llama_cpp()) as llama:
        body = {"prompt": [4], "temperature": 0, "stream": stream, "logit_bias": {str(EOS): -100}}
        served.post("/v1/completions", **{**body, "stream": False}, max_tokens=3)
        assert [slot.get("has_next_token") for slot in read_slots(llama)].count(False) == 1
        content = json.dumps({**body, "max_tokens": MANY_TOKENS})
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
        request = f"{head}Content-Type: application/json\r\n\r\n{content}".encode()
        with ExitStack() as clients:
            for _ in range(SLOTS):
                address = served.client.base_url
                client = socket.create_connection((address.host, address.port))
                clients.enter_context(client).sendall(request)
            wait_for(lambda: all(slot["is_processing"] for slot in read_slots(llama)))
        wait_for(lambda: not any(slot["is_processing"] for slot in read_slots(llama)))
        assert all(slot["has_next_token"] for slot in read_slots(llama))  # none has come to its end


async def the_prefix_of_a_prompt_is_cached(engine: LlamaCppEngine) -> None:
    prompt = tuple(range(10, 60))
    await collect(engine, Generation(prompt, 2, GREEDY))
    before = engine.load()
    await collect(engine, Generation((*prompt, 5), 2, GREEDY))
    after = engine.load()
    assert after.prompt_tokens - before.prompt_tokens == 51
    assert after.cached_tokens - before.cached_tokens >= 40


async def what_llama_cpp_does_otherwise_goes_to_the_other_engine(engine: LlamaCppEngine) -> None:
    assert (await engine.score([1, 2]))[0].logprob is None
    scores = await collect(engine, Generation((4,), 2, Sampling(presence_penalty=1.0)))
    assert [score.id for score in scores] != []


async def it_starts_again_after_it_has_died(engine: LlamaCppEngine) -> None:
    def is_ready() -> bool:
        return engine.is_ready

    child = find_llama_cpp()
    child.suspend()  # otherwise it may be done before it is killed
    lost = asyncio.create_task(collect(engine, Generation((4,), 60, GREEDY)))
    await until(lambda: engine.load().running == 1)
    child.kill()
    with pytest.raises(EngineError):
        await lost
    assert not is_ready()
    arrivals = [
        asyncio.create_task(collect(engine, Generation((4,), 3, GREEDY))) for _ in range(SLOTS)
    ]
    await until(lambda: any(SERVER in item.cmdline() for item in psutil.Process().children()))
    arrivals += [
        asyncio.create_task(collect(engine, Generation((4,), 3, GREEDY))) for _ in range(SLOTS)
    ]
    assert [len(scores) for scores in await asyncio.gather(*arrivals)] == [3] * 2 * SLOTS
    assert is_ready()
    child = find_llama_cpp()
    child.kill()
    await until(lambda: not is_ready())  # the kernel ends it
    await until(is_ready)  # without a request


async def what_it_logs_fills_no_disk(engine: LlamaCppEngine) -> None:
    child = find_llama_cpp()
    assert os.readlink(f"/proc/{child.pid}/fd/1") == os.devnull  # noqa: PTH115
    assert os.readlink(f"/proc/{child.pid}/fd/2").startswith("pipe:")  # noqa: PTH115


def test_a_model_that_cannot_be_loaded_is_an_error_with_its_reason(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_nothing(_model: object, path: Path) -> None:
        path.write_bytes(b"nothing")

    monkeypatch.setattr("serve.engines.llama_cpp._write_model", write_nothing)

    async def run() -> None:
        async with started(releases("llama")):
            pass

    with pytest.raises(EngineError, match=r"llama\.cpp did not start"):
        asyncio.run(run())


def test_seeds_of_64_bits_differ_in_32() -> None:
    assert fold_seed(7) == 7
    assert fold_seed((1 << 32) - 1) != (1 << 32) - 1
    assert fold_seed(1 << 40) != fold_seed(1 << 41)
    assert 0 <= fold_seed((1 << 63) - 1) < 1 << 32
