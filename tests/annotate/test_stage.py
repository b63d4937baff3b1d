"""The stage as a step: aligned parts, work done once, the same bytes however it is cut."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.failure_limit import TooManyFailuresError
from infra.dataset.fingerprint import document_id, json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import (
    Context,
    DatasetSpec,
    PartResult,
    Stage,
    WorkUnit,
    build_dataset,
)
from infra.language_id import identify
from infra.schemas.annotations import ANNOTATION_SCHEMA
from infra.schemas.documents import CHAPTERS_TYPE
from infra.schemas.quality_rules import RULES, Rule, check_rules
from infra.store.storage import Storage
from tasks.annotate import task as annotate
from tasks.annotate.config import AnnotateConfig
from tasks.annotate.signals.families import compute_signals

DOCUMENTS = Stage("documents", ("tests.annotate.test_stage",))
TEXTS = [
    "The quick brown fox jumps over the lazy dog, and that is all there is to it.",
    "Schreiben Sie an anna.schmidt@example.de oder an +49 30 1234567.",
    "",
    "数据 " * 40,
    "Ein Text mit Umlauten: äöü. " * 8,
]
TITLE = "Post an anna.schmidt@example.de"
BOOK = [
    {"title": "Of foxes", "start": 0},
    {"title": None, "start": 4},
    {"title": "Über +49 30 1234567", "start": 10},
]


def context(path: Path, workers: int = 0) -> Context:
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": workers}))
    return Context(Storage(str(path)), 1, cluster, NullReporter())


def table(texts: Sequence[str]) -> pa.Table:
    return pa.table(
        {
            "id": [document_id("site", "", text.encode()) for text in texts],
            "url": pa.array([f"http://x/{i}" for i in range(len(texts))], pa.string()),
            "text": pa.array(texts, pa.large_string()),
            "title": pa.array([TITLE if "Sie" in text else None for text in texts], pa.string()),
            "chapters": pa.array(
                [BOOK if "fox" in text else None for text in texts], CHAPTERS_TYPE
            ),
        }
    )


def write(*tables: pa.Table) -> Iterator[PartResult]:
    for rows in tables:
        yield PartResult(rows, ledger_table("documents", rows["id"].to_pylist()))


def documents(ctx: Context, units: Sequence[Sequence[Sequence[str]]]) -> Dataset:
    """A data set of documents; each unit makes one or more parts."""
    work = [WorkUnit(json_sha256(unit), tuple(table(part) for part in unit)) for unit in units]
    return build_dataset(
        ctx, DatasetSpec(DOCUMENTS, "site", {"units": [w.key for w in work]}), work, write
    )


def run(ctx: Context, texts: Dataset, **settings: object) -> Dataset:
    inputs: dict[str, Any] = {"config": AnnotateConfig.model_validate(settings), "documents": texts}
    return annotate.build(ctx, annotate.spec(ctx, **inputs), **inputs)


def test_parts_are_aligned_with_the_documents(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    texts = documents(ctx, [[TEXTS[:2]], [TEXTS[2:3], TEXTS[3:]], [[]]])
    annotations = run(ctx, texts)
    assert [part.name for part in annotations.parts] == ["00000", "00001", "00001-001", "00002"]
    for part, document_part in zip(annotations.parts, texts.parts, strict=True):
        assert part.name == document_part.name
        assert part.table().schema == ANNOTATION_SCHEMA
        assert part.table(["id"])["id"].to_pylist() == document_part.table(["id"])["id"].to_pylist()
        assert set(part.verdicts()["verdict"].to_pylist()) <= {"kept"}
    assert annotations.counts.n_in == annotations.counts.kept == len(TEXTS)
    assert annotations.source == "site"


def test_what_is_written(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = run(ctx, documents(ctx, [[TEXTS]])).table().to_pylist()
    assert [row["language"] for row in rows] == ["en", "de", "und", "zh", "de"]
    assert [row["words"] for row in rows][2:4] == [0, 80]
    assert [row["characters"] for row in rows] == [len(text) for text in TEXTS]
    assert [row["bytes"] for row in rows] == [len(text.encode()) for text in TEXTS]
    spans = [(TEXTS[1][s["start"] : s["end"]], s["kind"]) for s in rows[1]["pii"]]
    assert spans == [("anna.schmidt@example.de", "email"), ("+49 30 1234567", "phone")]
    assert not any(row["pii"] for row in rows[2:])
    (span,) = rows[1]["pii_title"]
    assert (TITLE[span["start"] : span["end"]], span["kind"]) == (
        "anna.schmidt@example.de",
        "email",
    )
    (span,) = rows[0]["pii_chapters"]
    assert span == {"chapter": 2, "start": 5, "end": 19, "kind": "phone"}
    assert not any(row["pii_title"] for index, row in enumerate(rows) if index != 1)
    assert not any(row["pii_chapters"] for row in rows[1:])


def test_another_part_annotates_itself_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path)
    run(ctx, documents(ctx, [[TEXTS[:2]], [TEXTS[2:]]]))
    identified: list[str] = []

    def recording_identify(texts: list[str], characters: int) -> tuple[list[str], list[float]]:
        identified.extend(texts)
        return identify(texts, characters)

    monkeypatch.setattr("tasks.annotate.annotate_table.identify", recording_identify)
    run(ctx, documents(ctx, [[TEXTS[:2]], [["A new document."]], [TEXTS[2:]]]))
    assert identified == ["A new document."]


def test_the_fingerprint_follows_configuration_and_input(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    one, other = documents(ctx, [[TEXTS]]), documents(ctx, [[TEXTS[:2]]])
    config = AnnotateConfig()
    short = AnnotateConfig(lid_max_chars=200)
    prints = {
        annotate.spec(ctx, config=c, documents=d).fingerprint
        for c in (config, short)
        for d in (one, other)
    }
    assert len(prints) == 4


def test_a_row_that_raises_an_error_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(texts: list[str], characters: int) -> tuple[list[str], list[float]]:
        if TEXTS[1] in texts:
            raise ValueError("no")
        return identify(texts, characters)

    monkeypatch.setattr("tasks.annotate.annotate_table.identify", broken)
    ctx = context(tmp_path)
    annotations = run(ctx, documents(ctx, [[TEXTS]]))
    assert annotations.counts.to_json() == {
        "in": 5,
        "kept": 4,
        "dropped": {},
        "failed": {"ValueError": 1},
    }
    assert annotations.parts[0].verdicts()["verdict"].to_pylist()[1] == "failed"


def test_every_published_rule_tests_a_signal_that_is_written() -> None:
    names = [rule.name for rules in RULES.values() for rule in rules]
    assert len(set(names)) == len(names)
    for name, rules in RULES.items():
        for rule in rules:
            assert rule.name.startswith(f"{name}_")
            assert rule.signal in ANNOTATION_SCHEMA.names
            assert rule.citation.startswith(("Rae", "Raffel", "Penedo"))


def test_a_rule_of_an_unknown_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="c4_typo"):
        check_rules([Rule("x", "c4_typo", ">=", 1, "nowhere")])


def test_some_rules_apply_to_some_languages_only() -> None:
    rules = {rule.name: rule for group in RULES.values() for rule in group}
    stop, short = rules["gopher_quality_stop_words"], rules["gopher_quality_short_words"]
    assert [stop.applies_to(code) for code in ("en", "de", None)] == [True, False, False]
    assert [short.applies_to(code) for code in ("en", "zh", None)] == [True, False, True]


def test_a_bug_in_an_annotator_stops_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path)
    texts = documents(ctx, [[[f"Text number {number}." for number in range(40)]]])

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("tasks.annotate.annotate_table.compute_signals", broken)
    with pytest.raises(KeyError, match="a bug"):
        run(ctx, texts)
    assert not list(tmp_path.glob("annotate/*/manifest.json"))


def test_more_failed_documents_than_one_in_a_hundred_stop_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path)
    texts = documents(ctx, [[["good", "bad one"]], [["bad two", "fine"]], [["good"] * 150]])

    def fragile(text: pa.ChunkedArray) -> Any:
        if any("bad" in item for item in text.to_pylist()):
            raise ValueError("cannot read this")
        return compute_signals(text)

    monkeypatch.setattr("tasks.annotate.annotate_table.compute_signals", fragile)
    with pytest.raises(TooManyFailuresError, match=r"2 of 154 documents failed.*ValueError"):
        run(ctx, texts)
    assert not list(tmp_path.glob("annotate/*/manifest.json"))
