"""The stage run again: after additions, removals, damage, and runs that were cut off."""

import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.compute.progress import NullReporter, Progress
from infra.dataset.code_version import module_digests
from infra.removals.match import parse_removal
from tasks.dedup import task as dedup
from tasks.dedup.config import DedupConfig
from tasks.dedup.minhash.shingles import shingles
from tasks.dedup.minhash.signatures import STAGE as SIGNATURES
from tasks.dedup.shuffle_plan import DedupPlan
from tasks.dedup.task import COMPARISON_MODULES, PART_DIGESTS
from tasks.dedup.verification.verify import request_shingles
from tests.dedup.corpora import context, documents, edited, jaccard, prose, row
from tests.dedup.stage import corpus, edges, marks, run
from tests.manifests import manifest_without_locations
from tests.select.annotations import annotated, note


def test_a_new_part_costs_its_own_signatures_only(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(1)
    run(ctx, [documents(ctx, "site", [rows[:8], rows[8:16]])])
    before = set(ctx.storage.list_files("unit_cache/signatures"))
    run(ctx, [documents(ctx, "site", [rows[:8], rows[8:16], rows[16:]])])
    assert len(set(ctx.storage.list_files("unit_cache/signatures")) - before) == 1


@given(seed=st.integers(0, 20), cut=st.integers(1, 22), shuffle=st.randoms())
@settings(max_examples=8)
def test_an_addition_gives_the_bytes_of_a_full_run_and_reads_no_old_text(
    seed: int, cut: int, shuffle: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = corpus(seed)
    shuffle.shuffle(rows)
    pieces = [rows[:cut], rows[cut:]]
    grown, fresh = (context(tmp_path_factory.mktemp("store")) for _ in range(2))
    options: dict[str, Any] = {"exhaustive_bucket_size": 2, "neighbors": 1}
    run(grown, [documents(grown, "site", pieces[:1])], **options)
    more = run(grown, [documents(grown, "site", pieces)], **options)
    full = run(fresh, [documents(fresh, "site", pieces)], **options)
    assert manifest_without_locations(more) == manifest_without_locations(full)


def test_a_new_document_asks_for_the_texts_it_may_resemble_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(2)
    template = prose(rng, 200)
    rows = [row("site", " ".join(template + prose(rng, 70)), f"http://x/{k}") for k in range(30)]
    asked: list[int] = []

    def counted(layout: DedupPlan, number: int) -> dict[str, Any]:
        found = request_shingles(layout, number)
        asked.append(found["requested"])
        return found

    monkeypatch.setattr("tasks.dedup.verification.verify.request_shingles", counted)
    ctx = context(tmp_path)
    options: dict[str, Any] = {"rows": 2}  # nearly every pair is nominated, and fails
    run(ctx, [documents(ctx, "site", [rows])], **options)
    assert asked == [30]
    near = " ".join(edited(rng, rows[4]["text"].split(), 1))
    run(ctx, [documents(ctx, "site", [rows, [row("site", near)]])], **options)
    # Its own pairs are unknown; the pairs among the others are not, and nobody reads them again.
    run(ctx, [documents(ctx, "site", [rows, [row("site", near)], [row("site", "far")]])], **options)
    assert asked[1] <= 31
    assert asked[2] == 0


def test_a_damaged_earlier_data_set_is_no_obstacle(tmp_path: Path) -> None:
    rows = corpus(4)
    more = [row("site", "a text of its own that is like no other", "http://z/")]
    fresh = context(tmp_path / "fresh")
    expected = manifest_without_locations(run(fresh, [documents(fresh, "site", [rows, more])]))
    for harm in ("gone", "changed", "manifest", "hint"):
        ctx = context(tmp_path / harm)
        first = run(ctx, [documents(ctx, "site", [rows])])
        name = "verified_pairs-00000.parquet"
        if harm == "gone":
            first.storage.remove(name)
        elif harm == "manifest":
            first.storage.write("manifest.json", b"")
        elif harm == "hint":
            for hint in ctx.storage.list_files("work/dedup-latest"):
                ctx.storage.write(hint, b"[1]")
        else:
            first.storage.write(name, first.storage.read(name)[:-40] + bytes(40))
        found = run(ctx, [documents(ctx, "site", [rows, more])])
        assert manifest_without_locations(found) == expected


def test_what_an_earlier_data_set_says_of_its_parts_is_checked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(3)
    parts = []
    for edits in (1, 4):
        words = prose(rng, 300)
        parts.append([row("site", " ".join(t)) for t in (words, edited(rng, words, edits))])
    more = [row("site", "a text of its own that is like no other")]
    fresh, ctx = context(tmp_path / "fresh"), context(tmp_path / "store")
    expected = run(fresh, [documents(fresh, "site", [*parts, more])])
    first = run(ctx, [documents(ctx, "site", parts)])
    contents = json.loads(first.read(PART_DIGESTS))
    first.storage.write(PART_DIGESTS, json.dumps(contents[::-1]).encode())
    found = run(ctx, [documents(ctx, "site", [*parts, more])])
    assert manifest_without_locations(found) == manifest_without_locations(expected)
    assert f"{PART_DIGESTS}: changed; all pairs are compared anew" in caplog.text


def test_what_comparisons_rest_on_covers_what_signatures_rest_on() -> None:
    own = {name for name in module_digests(SIGNATURES.modules) if name.startswith("tasks.dedup")}
    assert own - {"tasks.dedup.minhash.signatures"} <= {*module_digests(COMPARISON_MODULES)}


def test_known_pairs_are_looked_up_and_not_compared_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="tasks.dedup.pipeline")
    rows = corpus(4)
    ctx = context(tmp_path)
    run(ctx, [documents(ctx, "site", [rows])])
    assert "dedup: 3 candidate pairs, 3 compared now" in caplog.text
    more = [row("site", "a text of its own that is like no other", "http://z/")]
    run(ctx, [documents(ctx, "site", [rows, more])])
    assert "dedup: 3 candidate pairs, 0 compared now" in caplog.text


def test_removed_documents_are_as_if_they_had_never_been(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(2)
    gone = [rows[0], rows[6], rows[17]]
    taken = [parse_removal("id", r["id"]) for r in gone]
    whole = documents(ctx, "site", [rows])
    config = DedupConfig.model_validate({})
    inputs: dict[str, Any] = {"config": config, "documents": [whole], "removals": taken}
    found = marks(dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs))
    never = marks(run(ctx, [documents(ctx, "site", [[r for r in rows if r not in gone]])]))
    assert {key: value for key, value in found.items() if key in never} == never
    assert {found[r["id"]] for r in gone} == {(None, None, 0)}


def test_pairs_are_compared_anew_where_their_languages_changed(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(4)
    words = prose(rng, 150)
    texts = [" ".join(words), " ".join(edited(rng, words, 3))]
    source = documents(ctx, "site", [[row("site", text) for text in texts]])
    config = DedupConfig.model_validate(
        {"languages": {"de": {"shingle_unit": "characters", "ngram": 9}}}
    )
    found = []
    for language in ("en", "de"):
        notes = annotated(ctx, source, [[note(language=language) for _ in texts]])
        inputs: dict[str, Any] = {"config": config, "documents": [source], "annotations": [notes]}
        (edge,) = edges(dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs))
        found.append(edge["similarity"])
    assert found[0] == jaccard(texts[0], texts[1])
    one, other = (set(shingles(text, 9, "characters")) for text in texts)
    assert found[1] == len(one & other) / len(one | other) != found[0]


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_workers_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [r for seed in range(3) for r in corpus(seed)]
    found = []
    for workers in (0, 1, 2, 4):
        ctx = context(tmp_path / str(workers), workers)
        with ctx.cluster:
            parts = [rows[start : start + 10] for start in range(0, len(rows), 10)]
            found.append(run(ctx, [documents(ctx, "site", parts)], partition_memory="20kB"))
    assert len({manifest_without_locations(data) for data in found}) == 1


class Stopped(Exception):
    """The run was cut off."""


class Watcher(NullReporter):
    """Acts when a phase of deduplication starts."""

    def __init__(self, act: Callable[[str], None]) -> None:
        self.act = act
        self.steps: list[str] = []

    def update(self, progress: Progress) -> None:
        phase, _, _ = progress.message.partition(":")
        if phase and progress.stage == "dedup" and phase not in self.steps:
            self.steps.append(phase)
            self.act(phase)


def stop_at(wanted: str) -> Callable[[str], None]:
    def act(step: str) -> None:
        if step == wanted:
            raise Stopped

    return act


def test_a_run_cut_off_anywhere_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    rng = random.Random(1)
    base = prose(rng, 100)
    rows = [row("site", " ".join(edited(rng, base, 1)), f"http://y/{k}") for k in range(5)]
    rows += corpus(1)
    parts = [rows[start : start + 12] for start in range(0, len(rows), 12)]
    options = {"partition_memory": "20kB", "exhaustive_bucket_size": 3, "neighbors": 1}
    watcher = Watcher(lambda _: None)
    whole = replace(context(tmp_path / "whole"), reporter=watcher)
    expected = manifest_without_locations(run(whole, [documents(whole, "site", parts)], **options))
    assert {"oversized pairs", "verification"} < set(watcher.steps)
    for number, step in enumerate(watcher.steps):
        ctx = context(tmp_path / str(number))
        cut = replace(ctx, reporter=Watcher(stop_at(step)))
        with pytest.raises(Stopped):
            run(cut, [documents(cut, "site", parts)], **options)
        assert not [
            name for name in ctx.storage.list_files("dedup") if name.endswith("manifest.json")
        ]
        done = len(ctx.storage.list_files("work"))
        found = run(ctx, [documents(ctx, "site", parts)], **options)
        assert manifest_without_locations(found) == expected
        assert done > 0 or number == 0


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_a_worker_killed_in_the_middle_costs_its_tasks_and_no_byte(tmp_path: Path) -> None:
    rows = [r for seed in range(3) for r in corpus(seed)]
    parts = [rows[start : start + 8] for start in range(0, len(rows), 8)]
    quiet = context(tmp_path / "quiet")
    expected = manifest_without_locations(
        run(quiet, [documents(quiet, "site", parts)], partition_memory="20kB")
    )
    ctx = context(tmp_path / "killed", workers=2)
    killed: list[int] = []

    def kill(step: str) -> None:
        if step in ("buckets", "texts", "labels and comparisons"):
            (pid, *_) = ctx.cluster.client().run(os.getpid).values()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    with ctx.cluster:
        watched = replace(ctx, reporter=Watcher(kill))
        found = run(watched, [documents(watched, "site", parts)], partition_memory="20kB")
    assert len(killed) == 3
    assert manifest_without_locations(found) == expected
