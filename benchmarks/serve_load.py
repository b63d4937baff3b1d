"""Many clients of one endpoint for minutes: what became of each request, and of the server's memory.

    python -m benchmarks.serve_load [--clients 200] [--minutes 10] [--engine auto]

The clients complete texts, streamed or whole, go in the middle of some, and send malformed requests, while the alias of
the model moves to another version at half time. Exits with 1 if a request had no answer or another one than it should have, if the
memory of the server's processes grew by more than a tenth from the seventh tenth of the time to the last, or if work is left.
"""

import argparse
import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil

from benchmarks.serve_servers import write_model
from infra.registry.history import promote
from infra.registry.versions import PASSED, Version, register_version
from infra.store.storage import Storage
from tests.processes import guarded
from tests.serve.command import ServeCommand, serve_command

ROUTE = "/v1/completions"
RECIPE = "name: load\nstorage: {}\nsources: [{{name: site, kind: documents, paths: [x.jsonl]}}]\n"
SLOTS, MAX_QUEUE = 16, 150  # fewer than clients, so that some are sent away
MAX_GROWTH = 1.1
SAMPLE_S = 2.0
TIMEOUT_S = 300.0
MALFORMED: tuple[bytes, ...] = (
    b"{",
    b"[]",
    b'{"prompt": "x", "max_tokens": "many"}',
    b'{"prompt": "x", "unknown": 1}',
    b'{"prompt": "\xff"}',
    b'{"prompt": "x", "max_tokens": 100000}',
    b'{"prompt": [1, 2, -3]}',
)


class Load:
    """What the clients do, and what they saw.

    Attributes:
        outcomes: requests by what became of them.
        wrong: descriptions of answers that should have been others.
    """

    def __init__(self, url: str, deadline: float) -> None:
        self.url = url
        self.deadline = deadline
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.first_token_s: list[float] = []
        self.versions: Counter[str] = Counter()

    async def run_client(self, number: int) -> None:
        """Send one request after the other until the time is over."""
        chance = random.Random(number)
        actions: list[Callable[[httpx.AsyncClient, random.Random], Awaitable[str]]] = [
            self._whole,
            self._stream,
            self._leave,
            self._malformed,
        ]
        limits = httpx.Limits(max_keepalive_connections=1)
        async with httpx.AsyncClient(
            base_url=self.url, timeout=TIMEOUT_S, limits=limits, verify=False
        ) as client:
            while time.monotonic() < self.deadline:
                [action] = chance.choices(actions, weights=[4, 4, 2, 1])
                try:
                    outcome = await action(client, chance)
                except (httpx.HTTPError, ValueError, KeyError) as error:
                    self.wrong.append(f"{action.__name__}: {error!r}")
                    continue
                self.outcomes[outcome] += 1

    def _body(self, chance: random.Random, *, stream: bool) -> dict[str, object]:
        ids = [chance.randrange(1, 4096) for _ in range(chance.randint(1, 60))]
        tokens = chance.randint(1, 60)
        return {"prompt": ids, "max_tokens": tokens, "stream": stream, "seed": chance.randrange(99)}

    async def _whole(self, client: httpx.AsyncClient, chance: random.Random) -> str:
        response = await client.post(ROUTE, json=self._body(chance, stream=False))
        if response.status_code == 429:
            return await self._come_back(response)
        if response.status_code != 200:
            raise ValueError(f"{response.status_code}: {response.text[:200]}")
        answer = response.json()
        self.versions[answer["system_fingerprint"]] += 1
        if answer["choices"][0]["finish_reason"] not in ("stop", "length"):
            raise ValueError(response.text[:200])
        return "answered whole"

    async def _stream(self, client: httpx.AsyncClient, chance: random.Random) -> str:
        start, first, last = time.monotonic(), 0.0, ""
        body = self._body(chance, stream=True)
        async with client.stream("POST", ROUTE, json=body) as response:
            if response.status_code == 429:
                return await self._come_back(response)
            if response.status_code != 200:
                raise ValueError(f"{response.status_code} of a stream")
            async for line in response.aiter_lines():
                if line:
                    first = first or time.monotonic()
                    last = line
        if last != "data: [DONE]":
            raise ValueError(f"a stream ended with {last[:200]!r}")
        self.first_token_s.append(first - start)
        return "answered as a stream"

    async def _leave(self, client: httpx.AsyncClient, chance: random.Random) -> str:
        body = {**self._body(chance, stream=chance.random() < 0.5), "max_tokens": 400}
        try:
            async with asyncio.timeout(chance.random()):
                response = await client.post(ROUTE, json=body)
        except TimeoutError:
            return "left"
        if response.status_code == 429:
            return await self._come_back(response)
        return "answered before it left"

    async def _malformed(self, client: httpx.AsyncClient, chance: random.Random) -> str:
        headers = {"Content-Type": "application/json"}
        response = await client.post(ROUTE, content=chance.choice(MALFORMED), headers=headers)
        if response.status_code == 429:  # what only the model can refuse waits for it, too
            return await self._come_back(response)
        if response.status_code != 400 or "error" not in response.json():
            raise ValueError(f"{response.status_code} for a malformed request")
        return "refused with 400"

    async def _come_back(self, response: httpx.Response) -> str:
        await asyncio.sleep(min(1.0, float(response.headers["retry-after"])))
        return "sent away with 429"


async def _sample_memory(process: int, deadline: float) -> list[tuple[float, int]]:
    """Return times and bytes of the server's processes together."""
    samples = []
    server = psutil.Process(process)
    while time.monotonic() < deadline:
        family = [server, *server.children(recursive=True)]
        total = 0
        for member in family:
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:  # of the version that was replaced
                continue
        samples.append((time.monotonic(), total))
        await asyncio.sleep(SAMPLE_S)
    return samples


async def run(
    served: ServeCommand, clients: int, seconds: float, swap: Callable[[], None]
) -> tuple[Load, list[tuple[float, int]]]:
    """Load the endpoint, and move the alias at half time."""
    deadline = time.monotonic() + seconds
    load = Load(served.url, deadline)

    async def swap_at_half_time() -> None:
        await asyncio.sleep(seconds / 2)
        await asyncio.to_thread(swap)

    memory = asyncio.create_task(_sample_memory(served.process.pid, deadline))
    clients_running = [load.run_client(number) for number in range(clients)]
    await asyncio.gather(swap_at_half_time(), *clients_running)
    return load, await memory


def _register(store: Storage, export: str) -> Version:
    draft = Version(
        number=0,
        recipe="load",
        model="model",
        subject=export,
        weights=export,
        state=PASSED,
        trained=export,
        export=export,
        scores=(),
        run="1",
        created="2026-01-01T00:00:00+00:00",
        champion=None,
        on_pass="promote",
    )
    return register_version(store, draft)


def _growth(memory: list[tuple[float, int]]) -> float:
    """Return the memory of the last tenth over that of the seventh: the new model's caches are full by then."""
    tenth = max(1, len(memory) // 10)
    early = statistics.median(size for _, size in memory[6 * tenth : 7 * tenth] or memory)
    late = statistics.median(size for _, size in memory[-tenth:])
    return late / early


def main() -> int:
    """Run the load and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    with guarded(), tempfile.TemporaryDirectory(prefix="gristmill-load-") as scratch:
        root = Path(scratch)
        store = Storage(str(root / "store"))
        model, versions = write_model(root), []
        for number in range(2):
            shutil.copytree(model, root / "store" / "release" / f"model-{number}")
            config = root / "store" / "release" / f"model-{number}" / "config.json"
            # Another digest, by which an answer says whose it is.
            config.write_text(json.dumps({**json.loads(config.read_text()), "copy": number}))
            versions.append(_register(store, f"release/model-{number}"))
        promote(store, versions[0], by="benchmark", reason="first")
        recipe = root / "load.yaml"
        recipe.write_text(RECIPE.format(store.url))
        arguments = ["--slots", str(SLOTS), "--max-queue", str(MAX_QUEUE), "--poll", "1"]
        arguments += ["--engine", options.engine]
        with serve_command(root, str(recipe), *arguments) as served:
            load, memory = asyncio.run(
                run(
                    served,
                    options.clients,
                    60 * options.minutes,
                    lambda: _promote(store, versions[1]),
                )
            )
            left = _wait_until_idle(served)
    growth = _growth(memory)
    total = sum(load.outcomes.values()) + len(load.wrong)
    print(f"{total:,} requests of {options.clients} clients in {options.minutes:g} minutes")
    for outcome, count in load.outcomes.most_common():
        print(f"  {count:,} {outcome}")
    print(f"  {len(load.wrong):,} lost or wrong: {load.wrong[:5]}")
    print(f"answers by version: {sorted(load.versions.values())}")
    times = sorted(load.first_token_s)
    if times:
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        print(f"time to the first token of streams: p50 {p50:.3f} s, p99 {p99:.3f} s")
    sizes = [size / 1e6 for _, size in memory]
    print(
        f"memory: {sizes[0]:.0f} to {sizes[-1]:.0f} MB, at most {max(sizes):.0f}; growth {growth:.3f}"
    )
    print(f"requests left in the server: {left}")
    failed = bool(load.wrong) or left > 0 or growth > MAX_GROWTH or len(load.versions) != 2
    return int(failed)


def _promote(store: Storage, version: Version) -> None:
    promote(store, version, by="benchmark", reason="second")


def _wait_until_idle(served: ServeCommand) -> int:
    """Return how many requests are still in the server after a while: those of clients that have gone."""
    deadline = time.monotonic() + 30
    left = 1
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        lines = served.client.get("/metrics").text.splitlines()
        names = ("gristmill_requests_in_progress ", "gristmill_running_sequences{")
        left = sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(names))
    return left


if __name__ == "__main__":
    sys.exit(main())
