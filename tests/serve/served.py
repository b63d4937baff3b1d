"""An endpoint in this process, with an engine whose every step a test can foresee."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from infra.formats.byte_level import ALPHABET
from infra.store.storage import Storage
from serve.api.run import bind, server_config, socket_url
from serve.engines.interface import EngineError, Generation, Load, TokenScore
from serve.hub import Engines, ModelSource, Target
from serve.models import ServedModel
from tests.limits import WAIT_TIMEOUT_S, wait_for

END = 0
CONTEXT = 200
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def byte_tokenizer() -> Tokenizer:
    """An end of text, all bytes, and a token of two letters."""
    vocabulary = {char: 1 + byte for byte, char in enumerate(ALPHABET)} | {"ab": 257}
    tokenizer = Tokenizer(models.BPE({"<|endoftext|>": END, **vocabulary}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def model_folder(folder: Path, *, chat: bool = True, context: int = CONTEXT) -> Path:
    """Write what the endpoint reads of a released folder: all but weights."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "eos_token_id": END,
        "max_position_embeddings": context,
        "vocab_size": 258,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(byte_tokenizer().to_str())
    if chat:
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


class Parrot:
    """Repeats its prompt until it is stopped; a seed shifts where it begins if the temperature is not 0.

    ``step_s`` is the time of a token, ``fail_at`` the token at which the engine dies.
    """

    name = "parrot"
    context_length = CONTEXT

    def __init__(self, word: str = "", slots: int = 4, step_s: float = 0.0) -> None:
        self.word = [1 + byte for byte in word.encode()]
        self.step_s = step_s
        self.fail_at: int | None = None
        self.slots = slots
        self.running = 0
        self.max_running = 0
        self.generated = 0
        self.closed = False
        self._room = asyncio.Semaphore(slots)

    async def generate(self, generation: Generation) -> AsyncGenerator[TokenScore, None]:
        said = self.word or list(generation.prompt)
        shift = generation.sampling.seed if generation.sampling.temperature else 0
        async with self._room:
            self.running += 1
            self.max_running = max(self.max_running, self.running)
            try:
                for step in range(generation.max_new_tokens):
                    if self.closed or self.fail_at == step:
                        raise EngineError("the parrot is gone")
                    await asyncio.sleep(self.step_s)
                    self.generated += 1
                    token = said[(step + shift) % len(said)]
                    top = [(token, -0.5), (257, -1.5)][: generation.num_top]
                    yield TokenScore(token, -0.5 if generation.logprobs else None, tuple(top))
                    if token in generation.stop_ids:
                        return
            finally:
                self.running -= 1

    async def score(self, ids: Sequence[int], num_top: int = 0) -> list[TokenScore]:
        top = ((257, -0.25), (1, -2.0))[:num_top]
        rest = [TokenScore(token, -token / 100, top) for token in ids[1:]]
        return [TokenScore(ids[0], None), *rest]

    @property
    def is_ready(self) -> bool:
        return not self.closed

    def load(self) -> Load:
        return Load(self.running, 0, self.slots)

    async def close(self) -> None:
        self.closed = True


def source(name: str, folder: Path, version: int | None = None) -> ModelSource:
    """A model that stays what it is."""
    target = Target(str(folder), Storage(str(folder)), version)
    return ModelSource(name, lambda: target)


def starter(parrots: Mapping[str, Parrot]) -> Any:
    """What starts the parrot of a model's id."""

    async def start(model: ServedModel) -> Engines:
        return Engines(parrots[model.name], None)

    return start


class Served:
    """An endpoint and a client of it."""

    def __init__(self, url: str, server: uvicorn.Server) -> None:
        self.url = url
        self.server = server
        self.client = httpx.Client(base_url=url, timeout=WAIT_TIMEOUT_S)

    def post(self, route: str, **body: Any) -> Any:
        response = self.client.post(route, json=body)
        return response.json() if response.status_code == 200 else response

    def events(self, route: str, **body: Any) -> list[Any]:
        """Return the data of the events of a stream; ``[DONE]`` as text."""
        events = []
        with self.client.stream("POST", route, json={**body, "stream": True}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            for line in response.iter_lines():
                if line:
                    data = line.removeprefix("data: ")
                    events.append(data if data == "[DONE]" else json.loads(data))
        return events

    def metric(self, name: str) -> float:
        """Return the value of a metric, with its labels as Prometheus writes them."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0


@contextmanager
def serving(app: ASGIApp) -> Iterator[Served]:
    """Serve an application from a thread."""
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(server_config(app, grace_s=2))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        assert server.started
        served = Served(socket_url(bound), server)
        with served.client:
            yield served
    finally:
        server.should_exit = True
        thread.join(WAIT_TIMEOUT_S)
