"""Same input, same bytes: for any number of workers, any order of work, and any crash."""

import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.command import gristmill, start, write_recipe
from tests.e2e.corpora import docstrings, mixed, recipe, write_jsonl
from tests.inline import SimulatedCrash, data_bytes, go
from tests.limits import wait_for

pytestmark = pytest.mark.e2e


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


def test_a_killed_run_of_two_workers_that_one_worker_ends_has_the_bytes_of_one_process(
    tmp_path: Path,
) -> None:
    corpus = mixed(tmp_path / "in", documents=120)
    go(recipe(tmp_path / "alone", corpus))
    home = tmp_path / "home"
    path = write_recipe(tmp_path / "killed.yaml", recipe(tmp_path / "killed", corpus))
    cache_entries = tmp_path / "killed" / "unit_cache"
    with start(home, "run", str(path)) as process:
        wait_for(lambda: any(cache_entries.glob("annotate/*/*.json")), process, 0.01)
        assert process.poll() is None, "the run ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: not process.members())
    assert not list((tmp_path / "killed").glob("tokenize/all-*/manifest.json"))
    ran = gristmill(home, "run", str(path), "--set", "cluster.workers=1")
    assert ran.code == 0, ran.err

    expected = data_bytes(tmp_path / "alone")
    assert expected
    finished = {
        name: data
        for name, data in data_bytes(tmp_path / "killed").items()
        if not Path(name).name.startswith(".tmp-")
    }
    assert finished == expected
