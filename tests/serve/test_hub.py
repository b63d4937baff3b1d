"""How a model takes the place of another, when something fails."""

import asyncio
from pathlib import Path

import pytest

from infra.store.storage import Storage
from serve.engines.interface import EngineError
from serve.hub import FIRST_PAUSE_S, LONGEST_PAUSE_S, Engines, Hub, ModelSource, Target
from serve.models import ServedModel
from serve.sources import SourceFinder
from tests.serve.served import Parrot, model_folder


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_version_that_does_not_start_is_tried_again_after_pauses_that_grow(
    tmp_path: Path,
) -> None:
    folder = Storage(str(model_folder(tmp_path / "model")))
    version, failing, clock = 1, {2}, Clock()
    tries: list[tuple[int, float]] = []

    async def start(_model: ServedModel) -> Engines:
        tries.append((version, clock.now))
        if version in failing:
            raise EngineError("no memory")
        return Engines(Parrot(), None)

    async def run() -> None:
        nonlocal version
        source = ModelSource("model", lambda: Target(f"version {version}", folder, version))
        hub = Hub([source], start, clock=clock)
        await hub.start()
        version = 2
        for clock.now in range(0, 8 * int(FIRST_PAUSE_S), 10):
            await hub.refresh()
        minutes = [0, 1, 3, 7]
        assert tries[1:] == [(2, minute * FIRST_PAUSE_S) for minute in minutes]
        # Another version is tried at once, and the first one, too, if it is named again after it.
        version = 3
        await hub.refresh()
        assert hub.deployments[0].target.version == 3
        version = 2
        await hub.refresh()
        assert [tried for tried, _ in tries[-2:]] == [3, 2]
        failing.clear()
        clock.now += LONGEST_PAUSE_S
        await hub.refresh()
        assert hub.deployments[0].target.version == 2
        await hub.close()

    asyncio.run(run())


def test_a_model_is_served_although_its_index_is_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def open_sources() -> SourceFinder:
        raise FileNotFoundError("suffixes.bin")

    async def start(_model: ServedModel) -> Engines:
        return Engines(Parrot(), None)

    async def run() -> None:
        folder = Storage(str(model_folder(tmp_path / "model")))
        target = Target("model", folder, open_sources=open_sources)
        hub = Hub([ModelSource("model", lambda: target)], start)
        await hub.start()
        [deployment] = hub.deployments
        assert deployment.sources is None
        assert "suffixes.bin" in str(deployment.sources_error)
        await hub.close()

    asyncio.run(run())
    assert "cannot be opened" in caplog.text
