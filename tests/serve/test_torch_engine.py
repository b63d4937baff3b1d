"""The batched engine as the endpoint uses it, in its own process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from infra.errors import UserError
from lm.models.hf_auto import load_model
from serve.engines.batched.engine import TorchEngine
from serve.engines.interface import EngineError, Generation, Sampling, TokenScore
from serve.models import load_served_model
from tests.limits import WAIT_TIMEOUT_S, until, wait_for
from tests.processes import is_alive, process_tree
from tests.serve.released import CONTEXT_LENGTH, VOCAB_SIZE, Releases

pytestmark = pytest.mark.e2e
GREEDY = Sampling(temperature=0)


def with_engine(
    folder: Path, use: Callable[[TorchEngine], Awaitable[None]], slots: int = 2
) -> None:
    """Run a coroutine with an engine of a folder."""

    async def main() -> None:
        engine = await TorchEngine.start(load_served_model(folder, "tiny"), slots=slots)
        try:
            await use(engine)
        finally:
            await engine.close()
        assert not psutil.pid_exists(engine.pid)

    asyncio.run(asyncio.wait_for(main(), WAIT_TIMEOUT_S))


async def collect(engine: TorchEngine, generation: Generation) -> list[TokenScore]:
    return await rest(engine.generate(generation))


async def rest(stream: AsyncIterator[TokenScore]) -> list[TokenScore]:
    return [score async for score in stream]


def test_requests_join_and_leave_and_all_are_answered(releases: Releases) -> None:
    folder = releases("llama")

    async def use(engine: TorchEngine) -> None:
        prompts = [tuple(range(1, 2 + number)) for number in range(6)]
        generations = [
            Generation(prompt, 10, Sampling(seed=number), logprobs=True, num_top=3)
            for number, prompt in enumerate(prompts)
        ]
        together = await asyncio.gather(*(collect(engine, each) for each in generations))
        alone = [await collect(engine, each) for each in generations]
        for ours, theirs in zip(together, alone, strict=True):
            assert [score.id for score in ours] == [score.id for score in theirs]
            assert len(ours) == 10
            for first, second in zip(ours, theirs, strict=True):
                assert first.logprob == pytest.approx(second.logprob, abs=1e-4)
                assert first.top[0][1] >= first.top[1][1] >= first.top[2][1]
        load = engine.load()
        assert (load.running, load.waiting, load.slots) == (0, 0, 2)
        assert load.generated_tokens == 120
        assert load.prompt_tokens == 2 * sum(map(len, prompts))

        # A reader that goes away frees the slot; one that waits for it gets it.
        endless = Generation((1, 2), CONTEXT_LENGTH - 2, GREEDY)
        streams = [engine.generate(endless) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        waiting = asyncio.create_task(collect(engine, Generation((3,), 4, GREEDY)))
        await until(lambda: engine.load().waiting == 1 or waiting.done())
        for stream in streams:
            await stream.aclose()
        assert len(await waiting) == 4
        task = asyncio.create_task(collect(engine, endless))
        await until(lambda: engine.load().running == 1 or task.done())
        task.cancel()
        await until(lambda: engine.load().running == 0)

        # Scores are those of one pass of transformers, also while others generate.
        ids = [int(id_) for id_ in np.random.default_rng(0).integers(1, VOCAB_SIZE, CONTEXT_LENGTH)]
        scores, _ = await asyncio.gather(engine.score(ids, 2), collect(engine, endless))
        with torch.no_grad():
            expected = torch.log_softmax(load_model(folder)(torch.tensor([ids])).logits[0], -1)
        assert [score.id for score in scores] == ids
        assert (scores[0].logprob, scores[0].top) == (None, ())
        for place, score in enumerate(scores[1:]):
            assert score.logprob == pytest.approx(float(expected[place, score.id]), abs=1e-4)
            assert score.top[0][0] == int(expected[place].argmax())

        vectors = await engine.embed([[0, 5, 6], [0, 7], [0, 5, 6]])
        assert vectors.shape == (3, 32)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)

        with pytest.raises(UserError):
            await engine.classify([[1, 2]])
        for wrong in (Generation((VOCAB_SIZE,), 1), Generation((), 1), Generation((1,), 64)):
            with pytest.raises(UserError):
                await collect(engine, wrong)

    with_engine(folder, use)


@pytest.mark.usefixtures("foreign_folder")
def test_requests_end_with_an_error_when_the_process_dies_and_it_starts_again(
    releases: Releases,
) -> None:
    async def use(engine: TorchEngine) -> None:
        stream = engine.generate(Generation((1, 2), CONTEXT_LENGTH - 2, GREEDY))
        await anext(stream)
        waiting = [
            asyncio.create_task(collect(engine, Generation((3,), 60, GREEDY))) for _ in range(4)
        ]
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineError):
            await rest(stream)
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, EngineError)
        assert not engine.is_ready
        killed = engine.pid
        await until(lambda: engine.is_ready)  # without a request: a balancer may wait for it
        assert engine.pid != killed
        assert len(await collect(engine, Generation((3,), 4, GREEDY))) == 4

    with_engine(releases("lstm"), use)


START = """
import asyncio, sys
from pathlib import Path
from serve.engines.batched.engine import TorchEngine
from serve.models import load_served_model

async def main():
    engine = await TorchEngine.start(load_served_model(Path(sys.argv[1]), "tiny"))
    print(engine.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_the_process_ends_with_the_endpoint_that_is_killed(releases: Releases) -> None:
    command = [sys.executable, "-c", START, str(releases("cnn"))]
    with process_tree(command, stdout=subprocess.PIPE) as endpoint:
        assert endpoint.stdout is not None
        worker = psutil.Process(int(endpoint.stdout.readline()))
        assert is_alive(worker)
        endpoint.kill()
        wait_for(lambda: not is_alive(worker))


def test_a_damaged_folder_is_refused(releases: Releases, tmp_path: Path) -> None:
    for path in releases("gpt2").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        asyncio.run(TorchEngine.start(load_served_model(tmp_path, "tiny")))
