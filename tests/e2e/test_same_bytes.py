"""Same input, same bytes: for any number of workers, any order of work, and any crash."""

import errno
import multiprocessing
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import UserError
from tests.e2e.command import gristmill, start, write_recipe
from tests.e2e.corpora import docstrings, mixed, recipe, write_jsonl
from tests.inline import SimulatedCrash, data_bytes, go
from tests.limits import WAIT_TIMEOUT_S, wait_for

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
    home: Path, tmp_path: Path
) -> None:
    corpus = mixed(tmp_path / "in", documents=120)
    go(recipe(tmp_path / "alone", corpus), until="index")
    value = recipe(tmp_path / "killed", corpus, cluster={"workers": 2})
    path = write_recipe(tmp_path / "killed.yaml", value)
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


# What happens at an operation on the store: its process is killed, or the operation fails.
FAULTS = {"kill": None, "disk full": errno.ENOSPC, "input/output error": errno.EIO}
OPERATIONS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir")
EXAMPLES = int(os.environ.get("FAULT_EXAMPLES", "6"))
MAX_OPERATION = 950  # an undisturbed run has about as many


def run_with_fault(recipe_: dict[str, Any], fault: str, number: int) -> None:
    """Run the pipeline in a child process, with a fault at an operation on its store.

    The child ends in whatever way the fault leads to, but never with a bug: a ``TypeError``, for example.
    """
    store = recipe_["storage"]

    def run() -> None:
        remaining = number

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal remaining
            if event not in OPERATIONS or not str(arguments[0]).startswith(store):
                return
            remaining -= 1
            if remaining == 0:
                code = FAULTS[fault]
                if code is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(code, os.strerror(code or 0), str(arguments[0]))

        sys.addaudithook(count)
        with suppress(OSError, UserError):
            go(recipe_)

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join(WAIT_TIMEOUT_S)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode


@settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(
    faults=st.lists(
        st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(1, MAX_OPERATION)),
        min_size=1,
        max_size=4,
    )
)
def test_any_sequence_of_faults_leads_to_the_same_bytes(faults: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = mixed(folder / "in", 20)
        go(recipe(folder / "undisturbed", corpus))
        disturbed = recipe(folder / "disturbed", corpus)
        for fault, number in faults:
            run_with_fault(disturbed, fault, number)
        go(disturbed)
        assert data_bytes(folder / "disturbed") == data_bytes(folder / "undisturbed")
