"""The registry: numbers and aliases are taken by one writer, and every decision stays readable."""

import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.registry.history import (
    CHALLENGER,
    AliasMovedError,
    load_history,
    model_state,
    needed_folders,
    promote,
    reject,
    roll_back,
)
from infra.registry.versions import (
    FAILED,
    HELD,
    PASSED,
    CorruptRegistryError,
    Evidence,
    Version,
    VersionNotFoundError,
    load_version,
    load_versions,
    register_version,
)
from infra.store.storage import Storage
from tests.servers import S3


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.e2e)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(str(tmp_path))
    server: S3 = request.getfixturevalue("s3")
    return Storage(f"s3://{server.bucket}/{uuid.uuid4().hex}")


def draft(subject: str, *, model: str = "tiny", state: str = PASSED) -> Version:
    return Version(
        number=0,
        recipe="web",
        model=model,
        subject=subject,
        weights=f"weights of {subject}",
        state=state,
        trained=f"train/{subject}",
        export=f"release/{subject}",
        scores=[f"evaluate/{subject}"],
        run="20260101-000000-000aaaa",
        created="2026-01-01T00:00:00+00:00",
        champion=None,
        on_pass="promote",
        metrics=[{"name": "bits_per_byte", "value": 2.0}],
        gates=[Evidence("bits_per_byte <= 2.1", passed=state != FAILED, value=2.0, limit=2.1)],
    )


def at_once(calls: list[Callable[[], object]]) -> list[object]:
    """Call functions at the same time; return their results or errors."""
    results: list[object] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(index: int) -> None:
        gate.wait()
        try:
            results[index] = calls[index]()
        except UserError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_version_is_read_as_it_was_registered(store: Storage) -> None:
    version = register_version(store, draft("a"))
    assert version.number == 1
    assert load_version(store, "web", 1) == version
    assert version.gates[0].limit == 2.1


def test_the_same_subject_and_champion_is_registered_once(store: Storage) -> None:
    first = register_version(store, draft("a"))
    assert register_version(store, replace(draft("a"), run="later")) == first
    assert register_version(store, replace(draft("a"), champion=1)).number == 2
    assert register_version(store, draft("a", model="other")).number == 3


def test_versions_that_are_registered_at_once_get_numbers_of_their_own(store: Storage) -> None:
    at_once([partial(register_version, store, draft(name)) for name in "abcdef"])
    assert [version.number for version in load_versions(store, "web")] == [1, 2, 3, 4, 5, 6]
    assert {version.subject for version in load_versions(store, "web")} == set("abcdef")


def test_of_two_who_move_an_alias_at_once_one_wins_and_the_other_is_told(store: Storage) -> None:
    versions = [register_version(store, draft(name)) for name in "abcd"]
    seen = load_history(store, "web")
    moves = [
        partial(promote, store, item, expected=seen, by="ann", reason="better") for item in versions
    ]
    results = at_once(list(moves))
    lost = [result for result in results if isinstance(result, AliasMovedError)]
    [event] = load_history(store, "web")
    assert len(lost) == len(versions) - 1
    assert event in results
    assert model_state([event], "tiny").champion == event.version


def test_decisions_about_different_models_do_not_disturb_each_other(store: Storage) -> None:
    versions = [register_version(store, draft(name, model=name)) for name in "abc"]
    seen = load_history(store, "web")
    at_once(
        [
            partial(promote, store, item, expected=seen, by="ann", reason="better")
            for item in versions
        ]
    )
    history = load_history(store, "web")
    assert [model_state(history, name).champion for name in "abc"] == [1, 2, 3]


def test_a_rollback_goes_back_step_by_step_and_is_part_of_the_history(store: Storage) -> None:
    for name in "abc":
        promote(store, register_version(store, draft(name)), by="ann", reason="better")
    assert roll_back(store, "web", "tiny", by="bob", reason="worse on tables").version == 2
    assert roll_back(store, "web", "tiny", by="bob", reason="worse, too").version == 1
    with pytest.raises(VersionNotFoundError):
        roll_back(store, "web", "tiny", by="bob", reason="further")
    history = load_history(store, "web")
    state = model_state(history, "tiny")
    assert state.champion == 1
    assert state.withdrawn == {2, 3}
    assert [(event.version, event.previous) for event in history] == [
        (1, None),
        (2, 1),
        (3, 2),
        (2, 3),
        (1, 2),
    ]
    assert [event.by for event in history[3:]] == ["bob", "bob"]


def test_a_version_that_is_promoted_again_is_withdrawn_no_more(store: Storage) -> None:
    for name in "ab":
        promote(store, register_version(store, draft(name)), by="ann", reason="better")
    roll_back(store, "web", "tiny", by="ann", reason="better")
    assert promote(store, load_version(store, "web", 2), by="ann", reason="better") is not None
    assert promote(store, load_version(store, "web", 2), by="ann", reason="better") is None, (
        "it is the champion already"
    )
    assert model_state(load_history(store, "web"), "tiny").withdrawn == frozenset()


def test_a_challenger_becomes_champion_or_is_rejected(store: Storage) -> None:
    for name in "ab":
        version = register_version(store, draft(name, state=HELD))
        promote(store, version, alias=CHALLENGER, by="ann", reason="better")
    assert model_state(load_history(store, "web"), "tiny").aliases == {"challenger": 2}
    promote(store, load_version(store, "web", 2), by="ann", reason="better")
    assert model_state(load_history(store, "web"), "tiny").aliases == {"champion": 2}
    reject(store, load_version(store, "web", 1), by="ann", reason="better")
    assert model_state(load_history(store, "web"), "tiny").withdrawn == {1}
    with pytest.raises(UserError):
        reject(store, load_version(store, "web", 2), by="ann", reason="better")


def test_what_aliases_and_a_rollback_need_stays_in_the_store(store: Storage) -> None:
    for name in "ab":
        promote(store, register_version(store, draft(name)), by="ann", reason="better")
    register_version(store, draft("held", state=HELD))
    register_version(store, draft("bad", state=FAILED))
    names = {folder.partition("/")[2] for folder in needed_folders(store, "web")}
    assert names == {"a", "b", "held"}
    roll_back(store, "web", "tiny", by="ann", reason="better")
    assert "release/b" not in needed_folders(store, "web")


def test_a_decision_that_is_damaged_or_missing_is_never_passed_over(store: Storage) -> None:
    for name in "ab":
        promote(store, register_version(store, draft(name)), by="ann", reason="better")
    store.remove("registry/web/history/000001.json")
    with pytest.raises(CorruptRegistryError):
        load_history(store, "web")
    store.write("registry/web/history/000001.json", b"{}")
    with pytest.raises(CorruptRegistryError):
        load_history(store, "web")
    store.write("registry/web/versions/000002.json", b"[")
    with pytest.raises(CorruptRegistryError):
        load_versions(store, "web")
    with pytest.raises(VersionNotFoundError):
        load_version(store, "other", 1)
