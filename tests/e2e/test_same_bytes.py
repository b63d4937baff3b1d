"""Same input, same bytes: for any number of workers, any order of work, and any crash."""

import os
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.command import gristmill, start, write_recipe
from tests.e2e.corpora import docstrings, mixed, recipe, write_jsonl
from tests.inline import SimulatedCrash, data_bytes, go

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    picks=st.lists(st.integers(0, 40), min_size=4, max_size=12),
    files=st.integers(1, 4),
    order=st.integers(1, 1000),
    cut=st.integers(0, 4),
)
def test_bytes_do_not_depend_on_order_or_crashes(
    picks: list[int], files: int, order: int, cut: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "in"
        corpus.mkdir()
        texts = [docstrings()[pick] for pick in picks]
        for number in range(files):
            write_jsonl(corpus / f"{number}.jsonl", [*texts[number::files], b"{broken"])
        sources = recipe(folder, corpus)["sources"]
        sources[0]["paths"] = [f"{corpus}/*.jsonl"]
        go(recipe(folder / "one", corpus, sources=sources))
        go(recipe(folder / "two", corpus, sources=sources), order=order)
        with suppress(SimulatedCrash):
            go(recipe(folder / "three", corpus, sources=sources), order=order, steps=cut)
        go(recipe(folder / "three", corpus, sources=sources), order=order + 1)
        expected = data_bytes(folder / "one")
        assert expected
        assert data_bytes(folder / "two") == expected
        assert data_bytes(folder / "three") == expected


def test_one_worker_two_workers_and_a_killed_run_agree(tmp_path: Path) -> None:
    corpus = mixed(tmp_path / "in", documents=120)
    home = tmp_path / "home"
    for name, workers in (("one", 1), ("two", 2)):
        path = write_recipe(
            tmp_path / f"{name}.yaml",
            recipe(tmp_path / name, corpus, cluster={"workers": workers}),
        )
        ran = gristmill(home, "run", str(path))
        assert ran.code == 0, ran.err
    path = write_recipe(tmp_path / "killed.yaml", recipe(tmp_path / "killed", corpus))
    process = start(home, "run", str(path))
    cache_entries = tmp_path / "killed" / "unit_cache"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(cache_entries.glob("annotate/*/*.json")):
            break
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").glob("tokenize/all-*/manifest.json"))
    ran = gristmill(home, "run", str(path))
    assert ran.code == 0, ran.err

    expected = data_bytes(tmp_path / "one")
    assert expected
    assert data_bytes(tmp_path / "two") == expected
    finished = {
        name: data
        for name, data in data_bytes(tmp_path / "killed").items()
        if not Path(name).name.startswith(".tmp-")
    }
    assert finished == expected
