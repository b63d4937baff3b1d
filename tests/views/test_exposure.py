"""Marks beside models: which removed documents they saw, at which steps, for good."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.dataset.dataset import Counts, Dataset
from infra.dataset.stage import DatasetSpec, Stage, commit_files
from infra.formats.megatron import TokenShards
from infra.removals.log import append_removals
from infra.removals.match import Removal, parse_removal
from infra.runs.run_records import StageRecord, latest_run, save_run
from tests.views.datasets import SITE, Road, pages, walk
from views.history.document_history import document_history
from views.removal.exposure import (
    ExposureRecord,
    exposed_steps,
    exposed_via_models,
    load_exposure,
    parent_models,
    update_exposure,
)


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return walk(tmp_path)


def steps(model: Dataset, first: int, end: int) -> list[int]:
    """A training that takes a hundred tokens a step, in their order, but stops before the end."""
    del model
    return [step for step in range(first // 100, (end - 1) // 100 + 1) if step < 100]


def mark(road: Road, *removals: Removal) -> list[ExposureRecord]:
    assert road.record is not None
    return update_exposure(road.storage, road.record.recipe, removals, steps)


def in_split(road: Road, split: str, source: str = "site") -> list[str]:
    shards = TokenShards(road.datasets["tokenize all"], split)
    return [row["url"] for row in shards.table.to_pylist() if row["source"] == source]


def test_a_seen_document_is_marked_with_its_steps(road: Road) -> None:
    url = in_split(road, "train")[0]
    found = mark(road, parse_removal("url", url))
    assert sorted(item.model for item in found) == ["narrow", "tiny"]
    shards = TokenShards(road.datasets["tokenize all"], "train")
    (page,) = [page for page in pages() if page.url == url]
    (document,) = shards.find_documents(page.id)
    first, end = shards.document_range(document)
    expected = steps(road.datasets["tokenize all"], first, end)
    for item in found:
        assert (item.documents, item.tokens) == (1, end - first)
        assert (item.steps, item.first_step, item.last_step) == (
            len(expected),
            expected[0],
            expected[-1],
        )
        assert item.by_removal == [{"kind": "url", "value": url, "documents": 1}]
        assert item.table is not None
        with road.storage.open(item.table) as stream:
            (row,) = pq.read_table(stream).to_pylist()
        assert (row["id"], row["first_token"], row["end_token"]) == (page.id, first, end)
        assert exposed_steps(road.storage, item, page.id) == expected
        assert exposed_steps(road.storage, item, "0" * 32) is None
    assert road.record is not None
    assert load_exposure(road.storage, road.record.recipe) == sorted(
        found, key=lambda m: m.fingerprint
    )


def test_a_domain_takes_all_of_its_documents(road: Road) -> None:
    (one, _) = mark(road, parse_removal("domain", "example.org"))
    shards = TokenShards(road.datasets["tokenize all"], "train")
    rows = shards.table.to_pylist()
    seen = [
        shards.document_range(number)
        for number, row in enumerate(rows)
        if row["source"] == "site" and steps(shards.dataset, *shards.document_range(number))
    ]
    assert one.documents == len(seen) > 10
    assert one.tokens == sum(end - first for first, end in seen)
    assert (one.first_step, one.last_step) == (min(a for a, _ in seen) // 100, 99)


def test_held_out_and_unread_documents_leave_no_mark(road: Road) -> None:
    shards = TokenShards(road.datasets["tokenize all"], "train")
    unread = shards.ids[-1]
    assert shards.document_range(shards.num_documents - 1)[0] >= 100 * 100
    held = in_split(road, "validation", "site")[0]
    assert mark(road, parse_removal("id", unread), parse_removal("url", held)) == []
    assert mark(road, parse_removal("domain", "elsewhere.org")) == []


def test_marks_follow_the_removals(road: Road) -> None:
    assert road.record is not None
    recipe = road.record.recipe
    one, other = (parse_removal("url", url) for url in in_split(road, "train")[:2])
    assert mark(road) == []
    assert road.storage.list_files("removals") == []
    assert mark(road, one)[0].documents == 1
    assert mark(road, one, other)[0].documents == 2
    before = {name: road.storage.read(name) for name in road.storage.list_files("removals")}
    assert mark(road, other, one)[0].documents == 2
    assert {name: road.storage.read(name) for name in road.storage.list_files("removals")} == before
    assert mark(road) == []
    assert load_exposure(road.storage, recipe) == []
    assert not [name for name in road.storage.list_files("removals") if name.endswith(".parquet")]


def test_what_is_known_outlives_the_token_shards(road: Road) -> None:
    one, other = (parse_removal("url", url) for url in in_split(road, "train")[:2])
    known = mark(road, one)
    folder = road.datasets["tokenize all"].storage.local_path()
    assert folder is not None
    shutil.rmtree(folder)
    assert mark(road, one, other) == known
    assert road.record is not None
    for item in known:
        name = f"removals/{road.record.recipe}/models/{item.fingerprint}.json"
        road.storage.remove(name)
    unknown = mark(road, one)
    assert [item.documents for item in unknown] == [None, None]
    assert "cannot be told" in str(unknown[0])


def test_the_story_tells_of_the_removal_and_of_older_models(road: Road) -> None:
    url = f"{SITE}/page/10"
    assert road.record is not None
    append_removals(
        road.storage, road.record.recipe, [parse_removal("domain", "docs.example.org")], "asked"
    )
    mark(road, parse_removal("domain", "docs.example.org"))
    (track,) = document_history(road.storage, url).runs
    event = next(item for item in track.events if item.verdict == "recorded")
    assert event.stage == "remove"
    assert event.evidence["value"] == "docs.example.org"
    assert track.outcome.endswith("its removal is recorded, the next run applies it")
    # A later run whose tokens and models know nothing of the document has the marks to tell from.
    old = latest_run(road.storage)
    early = [stage for stage in old.stages if stage.stage in ("acquire", "extract", "annotate")]
    road.storage.remove(f"runs/{old.recipe}/{old.run}.json")
    save_run(road.storage, replace(old, stages=early, models=[]))
    (again,) = document_history(road.storage, url).runs
    seen = [event for event in again.events if event.verdict == "exposed"]
    assert sorted(str(event.details["model"]) for event in seen) == ["narrow", "tiny"]
    assert seen[0].details["steps"]


def test_a_model_has_seen_what_the_one_it_started_from_has(road: Road) -> None:
    """Two stages after `tiny`, which themselves see nothing of it."""
    tokens, youngest = road.datasets["tokenize all"], road.datasets["train tiny"]
    for name in ("late", "last"):
        spec = DatasetSpec(Stage("train", ("infra.dataset.ledger",)), name, {}, (tokens, youngest))
        youngest = commit_files(
            road.ctx, spec, {}, counts=Counts(40, 40), stats={"steps": 50, "context_length": 256}
        )
        road.datasets[f"train {name}"] = youngest
    assert [item.source for item in parent_models(road.storage, youngest)] == ["late", "tiny"]

    def own(model: Dataset, first: int, end: int) -> list[int]:
        return [] if model.source in ("late", "last") else steps(model, first, end)

    assert road.record is not None
    recipe = road.record.recipe
    url = in_split(road, "train")[0]
    found = {
        item.model: item
        for item in update_exposure(road.storage, recipe, [parse_removal("url", url)], own)
    }
    assert sorted(found) == ["last", "late", "narrow", "tiny"]
    assert found["tiny"].via_models == []
    for name in ("late", "last"):
        assert found[name].via_models == [{"model": "tiny", "documents": 1}]
        assert (found[name].documents, found[name].tokens) == (1, found["tiny"].tokens)
        assert (found[name].steps, found[name].first_step, found[name].total_steps) == (0, None, 50)
        assert str(found[name]).endswith("in 0 of its 50 steps, 1 through tiny")
        (page,) = [page for page in pages() if page.url == url]
        assert exposed_steps(road.storage, found[name], page.id) == []
        assert exposed_via_models(road.storage, found[name], page.id) == ["tiny"]
    assert {item.model: item for item in load_exposure(road.storage, recipe)} == found

    stage = StageRecord.from_dataset(youngest, seconds=1.0, cached=False, entry="last")
    save_run(road.storage, replace(road.record, stages=[*road.record.stages, stage]))
    (track,) = document_history(road.storage, url, step_lookup=own).runs
    told = {e.details["model"]: e.details for e in track.events if e.verdict == "exposed"}
    assert (told["last"]["steps"], told["last"]["via_models"]) == ([], ["tiny"])
    assert "via_models" not in told["tiny"]

    home = road.datasets["train tiny"].storage.local_path()
    assert home is not None
    shutil.rmtree(home)
    road.storage.remove(f"removals/{recipe}/models/{found['last'].fingerprint}.json")
    again = {
        m.model: m for m in update_exposure(road.storage, recipe, [parse_removal("url", url)], own)
    }
    assert again["late"] == found["late"]  # what was known stays
    assert "a model it started from, are gone" in str(again["last"])
