"""Exposure records: the models trained on removed documents, and in which steps."""

import shutil
from dataclasses import replace

import pyarrow.parquet as pq

from flows.steps import STEPS
from infra.formats.megatron import TRAIN, VALIDATION, TokenShards
from infra.removals.log import append_removals
from infra.removals.match import Removal, parse_removal
from infra.runs.run_records import save_run
from lm.data.sampler import steps_containing
from tests.views.real_run import KEPT, RECIPE, SITE, RealRun, pages
from views.history.document_history import document_history
from views.removal.exposure import (
    ExposureRecord,
    load_exposed_steps,
    load_exposure,
    parent_models,
    update_exposure,
)


def update(run: RealRun, *removals: Removal) -> dict[str, ExposureRecord]:
    records = update_exposure(run.storage, RECIPE, removals, STEPS)
    return {record.model: record for record in records}


def documents(run: RealRun, model: str, *, exposed: bool) -> list[str]:
    """Ids of training documents that a model was, or was not, trained on itself."""
    shards = TokenShards(run.dataset("tokenize"), TRAIN)
    data = run.dataset("train", model)
    return [
        shards.ids[number]
        for number in range(shards.num_documents)
        if bool(steps_containing(data, *shards.document_range(number))) == exposed
    ]


def test_the_record_holds_the_exact_steps(run_copy: RealRun) -> None:
    document = documents(run_copy, "tiny", exposed=True)[0]
    shards = TokenShards(run_copy.dataset("tokenize"), TRAIN)
    first, end = shards.document_range(shards.find_documents(document)[0])
    record = update(run_copy, parse_removal("id", document))["tiny"]
    expected = steps_containing(run_copy.dataset("train", "tiny"), first, end)
    assert (record.documents, record.tokens) == (1, end - first)
    assert (record.steps, record.first_step, record.last_step) == (
        len(expected),
        expected[0],
        expected[-1],
    )
    assert record.total_steps == run_copy.dataset("train", "tiny").stats["steps"]
    assert record.by_removal == [{"kind": "id", "value": document, "documents": 1}]
    assert record.table is not None
    with run_copy.storage.open(record.table) as stream:
        (row,) = pq.read_table(stream).to_pylist()
    assert (row["id"], row["first_token"], row["end_token"]) == (document, first, end)
    assert load_exposed_steps(run_copy.storage, record, document) == (expected, [], [TRAIN])
    assert load_exposed_steps(run_copy.storage, record, "0" * 32) is None
    assert record in load_exposure(run_copy.storage, RECIPE)


def test_a_domain_matches_all_of_its_documents(run_copy: RealRun) -> None:
    record = update(run_copy, parse_removal("domain", "example.org"))["tiny"]
    shards = TokenShards(run_copy.dataset("tokenize"), TRAIN)
    data = run_copy.dataset("train", "tiny")
    ranges = [
        shards.document_range(number)
        for number, row in enumerate(shards.table.to_pylist())
        if row["source"] == "site"
    ]
    exposed = [item for item in ranges if steps_containing(data, *item)]
    assert record.documents == len(exposed) > 10
    assert record.tokens == sum(end - first for first, end in exposed)
    steps = {step for item in exposed for step in steps_containing(data, *item)}
    assert (record.first_step, record.last_step) == (min(steps), max(steps))


def test_documents_that_no_step_used_give_no_record(run_copy: RealRun) -> None:
    unused = set(documents(run_copy, "tiny", exposed=False))
    unused &= set(documents(run_copy, "late", exposed=False))
    assert unused
    assert update(run_copy, parse_removal("id", min(unused))) == {}
    assert update(run_copy, parse_removal("domain", "elsewhere.org")) == {}


def test_records_follow_the_removals(run_copy: RealRun) -> None:
    storage = run_copy.storage
    one, other = (
        parse_removal("id", item) for item in documents(run_copy, "tiny", exposed=True)[:2]
    )
    assert update(run_copy) == {}
    assert storage.list_files("removals") == []
    assert update(run_copy, one)["tiny"].documents == 1
    assert update(run_copy, one, other)["tiny"].documents == 2
    before = {name: storage.read(name) for name in storage.list_files("removals")}
    assert update(run_copy, other, one)["tiny"].documents == 2
    assert {name: storage.read(name) for name in storage.list_files("removals")} == before
    assert update(run_copy) == {}
    assert load_exposure(storage, RECIPE) == []
    assert not [name for name in storage.list_files("removals") if name.endswith(".parquet")]


def test_records_outlive_the_token_shards(run_copy: RealRun) -> None:
    one, other = (
        parse_removal("id", item) for item in documents(run_copy, "tiny", exposed=True)[:2]
    )
    known = update(run_copy, one)
    shutil.rmtree(run_copy.path("tokenize"))
    assert update(run_copy, one, other) == known
    for record in known.values():
        run_copy.storage.remove(f"removals/{RECIPE}/models/{record.fingerprint}.json")
    unknown = update(run_copy, one)
    assert {model: record.documents for model, record in unknown.items()} == dict.fromkeys(known)
    assert "unknown" in str(unknown["tiny"])


def test_the_history_shows_the_removal_and_models_of_earlier_runs(run_copy: RealRun) -> None:
    removal = parse_removal("domain", "docs.example.org")
    append_removals(run_copy.storage, RECIPE, [removal], "asked")
    update(run_copy, removal)
    document = next(
        item
        for item in documents(run_copy, "tiny", exposed=True)
        if item in {run_copy.ids()[page.url] for page in pages() if page.source == "site"}
    )
    (run,) = document_history(run_copy.storage, document, STEPS).runs
    event = next(event for event in run.events if event.verdict == "recorded")
    assert event.stage == "remove"
    assert event.evidence["value"] == "docs.example.org"
    assert run.outcome.endswith("its removal is recorded, the next run applies it")
    # The tokens and models of a later run lack the document: the records are all that is left.
    run_copy.storage.remove(f"runs/{RECIPE}/{run_copy.record.run}.json")
    save_run(run_copy.storage, replace(run_copy.until("annotate"), models=[]))
    (run,) = document_history(run_copy.storage, document, STEPS).runs
    exposed = {e.details["model"]: e.details for e in run.events if e.verdict == "exposed"}
    assert exposed["tiny"]["steps"]
    assert set(exposed) == {"late", "tiny"}


def test_a_model_was_trained_on_what_its_parent_was_trained_on(run_copy: RealRun) -> None:
    tiny, late = run_copy.dataset("train", "tiny"), run_copy.dataset("train", "late")
    assert [model.fingerprint for model in parent_models(run_copy.storage, late, STEPS)] == [
        tiny.fingerprint
    ]
    unused = set(documents(run_copy, "late", exposed=False))
    document = min(unused & set(documents(run_copy, "tiny", exposed=True)))
    removal = parse_removal("id", document)
    records = update(run_copy, removal)
    assert records["tiny"].via_models == []
    record = records["late"]
    assert record.via_models == [{"model": "tiny", "documents": 1}]
    assert (record.documents, record.tokens) == (1, records["tiny"].tokens)
    assert (record.steps, record.first_step) == (0, None)
    assert load_exposed_steps(run_copy.storage, record, document) == ([], ["tiny"], [TRAIN])

    shutil.rmtree(run_copy.path("train", "tiny"))
    run_copy.storage.remove(f"removals/{RECIPE}/models/{record.fingerprint}.json")
    assert update(run_copy, removal)["late"].documents is None, "its parent was deleted"


def test_a_removal_by_url_is_one_by_id(run_copy: RealRun) -> None:
    url = f"{SITE}/page/{KEPT}"
    by_url = update(run_copy, parse_removal("url", url))
    by_id = update(run_copy, parse_removal("id", run_copy.ids()[url]))
    assert {m: r.documents for m, r in by_url.items()} == {m: r.documents for m, r in by_id.items()}


def test_a_model_that_was_only_validated_on_a_document(run_copy: RealRun) -> None:
    shards = TokenShards(run_copy.dataset("tokenize"), VALIDATION)
    document = shards.ids[0]
    models = update(run_copy, parse_removal("id", document))
    assert {(r.documents, r.steps, r.validation_documents) for r in models.values()} == {(0, 0, 1)}
    assert set(models) == {"tiny", "late"}
    assert "trained on none" in str(models["tiny"])
    assert load_exposed_steps(run_copy.storage, models["tiny"], document) == ([], [], [VALIDATION])
    append_removals(run_copy.storage, RECIPE, [parse_removal("id", document)])
    (run,) = document_history(run_copy.storage, document, STEPS).runs
    held_out = [event for event in run.events if event.verdict == "held_out"]
    assert {event.details["model"] for event in held_out} == {"tiny", "late"}
    assert "trained on by" not in run.outcome


def test_a_model_that_was_moved_and_linked_back_is_found(run_copy: RealRun) -> None:
    path = run_copy.path("train", "tiny")
    path.symlink_to(path.rename(run_copy.folder.parent / path.name))
    document = documents(run_copy, "tiny", exposed=True)[0]
    assert update(run_copy, parse_removal("id", document))["tiny"].documents == 1
