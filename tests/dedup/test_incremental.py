"""The stage run again: after additions, removals, damage and interrupted runs."""

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
from infra.minhash.shingles import shingles
from infra.removals.match import parse_removal
from tasks.dedup import task as dedup
from tasks.dedup.config import DedupConfig
from tasks.dedup.shuffle_plan import DedupPlan
from tasks.dedup.signatures import STAGE as SIGNATURES
from tasks.dedup.task import COMPARISON_MODULES, PART_DIGESTS
from tasks.dedup.verification.verify import request_shingles
from tests.dedup.corpora import context, documents, edited, jaccard, prose, row
from tests.dedup.stage import corpus, labels, run, verified_pairs
from tests.manifests import manifest_without_locations
from tests.select.annotations import annotated, annotation


def test_only_the_signatures_of_a_new_part_are_computed(tmp_path: Path) -> None:
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


def test_only_texts_connected_to_a_new_document_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(2)
    template = prose(rng, 200)
    rows = [row("site", " ".join(template + prose(rng, 70)), f"http://x/{k}") for k in range(30)]
    requested: list[int] = []

    def counted(plan: DedupPlan, number: int) -> dict[str, Any]:
        result = request_shingles(plan, number)
        requested.append(result["requested"])
        return result

    monkeypatch.setattr("tasks.dedup.verification.verify.request_shingles", counted)
    ctx = context(tmp_path)
    options: dict[str, Any] = {"rows": 2}  # nearly every pair is a candidate, and fails
    run(ctx, [documents(ctx, "site", [rows])], **options)
    assert requested == [30]
    near = " ".join(edited(rng, rows[4]["text"].split(), 1))
    run(ctx, [documents(ctx, "site", [rows, [row("site", near)]])], **options)
    # Only its own pairs are unknown; the pairs among the others are not compared again.
    run(ctx, [documents(ctx, "site", [rows, [row("site", near)], [row("site", "far")]])], **options)
    assert requested[1] <= 31
    assert requested[2] == 0


def test_a_damaged_earlier_data_set_does_not_change_the_result(tmp_path: Path) -> None:
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
        result = run(ctx, [documents(ctx, "site", [rows, more])])
        assert manifest_without_locations(result) == expected


def test_the_part_digests_of_an_earlier_data_set_are_verified(
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
    result = run(ctx, [documents(ctx, "site", [*parts, more])])
    assert manifest_without_locations(result) == manifest_without_locations(expected)
    assert f"{PART_DIGESTS}: changed; all pairs are compared anew" in caplog.text


def test_the_comparison_key_covers_all_modules_of_signatures() -> None:
    own = {name for name in module_digests(SIGNATURES.modules) if name.startswith("tasks.dedup")}
    assert own - {"tasks.dedup.signatures"} <= {*module_digests(COMPARISON_MODULES)}


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


def test_removed_documents_have_no_effect_on_the_others(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(2)
    removed = [rows[0], rows[6], rows[17]]
    removals = [parse_removal("id", r["id"]) for r in removed]
    whole = documents(ctx, "site", [rows])
    config = DedupConfig.model_validate({})
    inputs: dict[str, Any] = {"config": config, "documents": [whole], "removals": removals}
    result = labels(dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs))
    never = labels(run(ctx, [documents(ctx, "site", [[r for r in rows if r not in removed]])]))
    assert {key: value for key, value in result.items() if key in never} == never
    assert {result[r["id"]] for r in removed} == {(None, None, 0)}


def test_pairs_are_compared_again_if_their_languages_changed(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(4)
    words = prose(rng, 150)
    texts = [" ".join(words), " ".join(edited(rng, words, 3))]
    source = documents(ctx, "site", [[row("site", text) for text in texts]])
    config = DedupConfig.model_validate(
        {"languages": {"de": {"shingle_unit": "characters", "ngram": 9}}}
    )
    result = []
    for language in ("en", "de"):
        annotations = annotated(ctx, source, [[annotation(language=language) for _ in texts]])
        inputs: dict[str, Any] = {
            "config": config,
            "documents": [source],
            "annotations": [annotations],
        }
        (pair,) = verified_pairs(dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs))
        result.append(pair["similarity"])
    assert result[0] == jaccard(texts[0], texts[1])
    one, other = (set(shingles(text, 9, "characters")) for text in texts)
    assert result[1] == len(one & other) / len(one | other) != result[0]


@pytest.mark.e2e
def test_workers_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [r for seed in range(3) for r in corpus(seed)]
    result = []
    for workers in (0, 1, 3):
        ctx = context(tmp_path / str(workers), workers)
        with ctx.cluster:
            parts = [rows[start : start + 10] for start in range(0, len(rows), 10)]
            result.append(run(ctx, [documents(ctx, "site", parts)], partition_memory="20kB"))
    assert len({manifest_without_locations(data) for data in result}) == 1


class Interrupted(Exception):
    """The run was interrupted."""


class Watcher(NullReporter):
    """Acts when a phase of deduplication starts."""

    def __init__(self, act: Callable[[str], None]) -> None:
        self.act = act
        self.phases: list[str] = []

    def update(self, progress: Progress) -> None:
        phase = progress.phase
        if phase and progress.stage == "dedup" and phase not in self.phases:
            self.phases.append(phase)
            self.act(phase)


def stop_at(last: str) -> Callable[[str], None]:
    def act(phase: str) -> None:
        if phase == last:
            raise Interrupted

    return act


def test_a_run_interrupted_at_any_phase_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    rng = random.Random(1)
    base = prose(rng, 100)
    rows = [row("site", " ".join(edited(rng, base, 1)), f"http://y/{k}") for k in range(5)]
    rows += corpus(1)
    parts = [rows[start : start + 12] for start in range(0, len(rows), 12)]
    options = {"partition_memory": "20kB", "exhaustive_bucket_size": 3, "neighbors": 1}
    watcher = Watcher(lambda _: None)
    whole = replace(context(tmp_path / "whole"), reporter=watcher)
    expected = manifest_without_locations(run(whole, [documents(whole, "site", parts)], **options))
    assert {"oversized pairs", "verification"} < set(watcher.phases)
    for number, phase in enumerate(watcher.phases):
        ctx = context(tmp_path / str(number))
        cut = replace(ctx, reporter=Watcher(stop_at(phase)))
        with pytest.raises(Interrupted):
            run(cut, [documents(cut, "site", parts)], **options)
        assert not [
            name for name in ctx.storage.list_files("dedup") if name.endswith("manifest.json")
        ]
        done = len(ctx.storage.list_files("work"))
        result = run(ctx, [documents(ctx, "site", parts)], **options)
        assert manifest_without_locations(result) == expected
        assert done > 0 or number == 0


@pytest.mark.e2e
def test_a_killed_worker_costs_its_tasks_and_changes_no_byte(tmp_path: Path) -> None:
    rows = [r for seed in range(3) for r in corpus(seed)]
    parts = [rows[start : start + 8] for start in range(0, len(rows), 8)]
    quiet = context(tmp_path / "quiet")
    expected = manifest_without_locations(
        run(quiet, [documents(quiet, "site", parts)], partition_memory="20kB")
    )
    ctx = context(tmp_path / "killed", workers=2)
    killed: list[int] = []

    def kill(phase: str) -> None:
        if phase in ("buckets", "texts", "labels and comparisons"):
            (pid, *_) = ctx.cluster.client().run(os.getpid).values()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    with ctx.cluster:
        watched = replace(ctx, reporter=Watcher(kill))
        result = run(watched, [documents(watched, "site", parts)], partition_memory="20kB")
    assert len(killed) == 3
    assert manifest_without_locations(result) == expected
