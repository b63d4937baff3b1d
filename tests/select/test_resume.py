"""The stage interrupted between phases, and work that is done once: rules, and text digests."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import xxhash

from infra.compute import phases
from infra.compute.progress import NullReporter, Progress
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context
from infra.schemas.text_digests import read_with_digests
from infra.store.storage import Storage
from tasks.dedup import task as dedup
from tasks.dedup.config import DedupConfig
from tasks.select import eligibility
from tasks.select import task as select
from tasks.select.config import SelectConfig, SourceFilters
from tasks.select.rules import apply_rules
from tests.dedup.corpora import Row, context, documents, edited, prose, row
from tests.select.annotations import annotated, annotation

EVERY_PASS: dict[str, Any] = {
    "dedup_urls": True,
    "line_dedup": {"min_documents": 3, "min_words": 1},
    "substring_dedup": {"min_run_words": 20, "min_words": 1},
}


class Interrupted(Exception):
    """The run was interrupted."""


class Watcher(NullReporter):
    """Remember the phases of `select`; interrupt the run at the start of one."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.stop_at = stop_at
        self.phases: list[str] = []

    def update(self, progress: Progress) -> None:
        phase = progress.phase
        if phase and progress.stage == "select" and phase not in self.phases:
            self.phases.append(phase)
            if phase == self.stop_at:
                raise Interrupted


def pages(rng: random.Random) -> list[Row]:
    """Pages with repeated URLs, near-duplicates, repeated lines and a repeated passage."""
    line, passage = " ".join(prose(rng, 12)), " ".join(prose(rng, 30))
    rows = [
        row("site", f"{line}\n{' '.join(prose(rng, 80))} {passage} {k}", f"http://x/{k % 7}")
        for k in range(10)
    ]
    base = prose(rng, 150)
    return rows + [row("site", " ".join(edited(rng, base, 1)), f"http://y/{k}") for k in range(4)]


def inputs(ctx: Context) -> dict[str, Any]:
    rows = pages(random.Random(1))
    source = documents(ctx, "site", [rows[:7], rows[7:]])
    annotations = [[annotation(c4_sentences=9 if k else 0) for k in range(7)] for _ in range(2)]
    given_dedup: dict[str, Any] = {"config": DedupConfig(), "documents": [source]}
    labels = dedup.build(ctx, dedup.spec(ctx, **given_dedup), **given_dedup)
    config = {"languages": {}, "max_source_duplicate_fraction": 1, **EVERY_PASS}
    return {
        "config": SelectConfig.model_validate(config),
        "documents": [source],
        "annotations": [annotated(ctx, source, annotations)],
        "duplicate_labels": labels,
    }


def run(ctx: Context, given: dict[str, Any]) -> Dataset:
    return select.build(ctx, select.spec(ctx, **given), **given)


def test_an_interrupted_run_resumes_and_repeats_no_finished_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    run_task = phases._run_task

    def traced(work: Storage, file: str, function: Any, payload: Any) -> Any:
        started.append(file)
        return run_task(work, file, function, payload)

    monkeypatch.setattr(phases, "_run_task", traced)
    watcher = Watcher()
    whole = context(tmp_path / "whole")
    expected = run(replace(whole, reporter=watcher), inputs(whole)).manifest.to_bytes()
    assert {"rules", "URL survivors", "survivors", "line cuts", "substring cuts"} < {
        *watcher.phases
    }
    ctx = context(tmp_path / "interrupted")
    given = inputs(ctx)
    started.clear()
    for phase in watcher.phases:
        with pytest.raises(Interrupted):
            run(replace(ctx, reporter=Watcher(phase)), given)
        assert not ctx.storage.list_files("select")
    assert run(ctx, given).manifest.to_bytes() == expected
    assert len(started) == len({*started}) > len(watcher.phases)
    assert not ctx.storage.list_folders("work/select")


def test_rules_are_applied_once_to_each_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_rows: list[int] = []

    def counted(annotations: pa.Table, filters: SourceFilters) -> Any:
        judged_rows.append(annotations.num_rows)
        return apply_rules(annotations, filters)

    monkeypatch.setattr(eligibility, "apply_rules", counted)
    ctx = context(tmp_path)
    corpus = run(ctx, inputs(ctx))
    assert judged_rows == [7, 7]
    assert corpus.counts.dropped["c4_sentences"] > 0


def test_the_digests_beside_a_part_are_those_of_its_texts(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    corpus = run(ctx, inputs(ctx))
    assert corpus.stats["sources"]["site"]["trimmed_repeated_lines"] > 0
    for part in corpus.parts:
        for item in read_with_digests(part, ["text"]).to_pylist():
            text = item["text"].encode()
            assert item["content"] == xxhash.xxh3_128_hexdigest(text)
            assert item["bytes"] == len(text)
