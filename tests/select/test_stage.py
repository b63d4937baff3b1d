"""The stage: duplicate labels and annotations in, the corpus and a verdict per document out."""

import itertools
import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.dataset.dataset import Dataset
from infra.dataset.manifest import IntegrityError
from infra.dataset.stage import Context
from infra.errors import UserError
from tasks.dedup import task as dedup
from tasks.dedup.config import DedupConfig
from tasks.select import task as select
from tasks.select.config import SelectConfig
from tasks.select.task import TooManyDuplicatesError
from tests.dedup.corpora import Row, context, documents, edited, jaccard, prose, row
from tests.select.annotations import annotated, annotation

Annotations = list[list[dict[str, Any] | None]]


def run(
    ctx: Context,
    sources: Sequence[Dataset],
    annotations: Sequence[Dataset] | None = None,
    **fields: Any,
) -> Dataset:
    near: dict[str, Any] = {"config": DedupConfig(), "documents": list(sources)}
    labels = dedup.build(ctx, dedup.spec(ctx, **near), **near)
    inputs: dict[str, Any] = {
        "config": SelectConfig.model_validate({"languages": {}, "quality_filters": [], **fields}),
        "documents": list(sources),
        "annotations": [annotated(ctx, source) for source in sources]
        if annotations is None
        else list(annotations),
        "duplicate_labels": labels,
    }
    return select.build(ctx, select.spec(ctx, **inputs), **inputs)


def ledger(corpus: Dataset) -> list[Row]:
    return [verdict for part in corpus.parts for verdict in part.verdicts().to_pylist()]


def copies(seed: int) -> list[Row]:
    """Texts of one source with exact duplicates, near-duplicates and chains of growing edits."""
    rng = random.Random(seed)
    texts = []
    for number in range(5):
        words = prose(rng, rng.randint(60, 200))
        texts.append(" ".join(words))
        for _ in range(number):
            words = edited(rng, words, 1 + len(words) // 60)
            texts.append(" ".join(words))
    texts += [texts[0], texts[3].upper(), texts[7] + " ", "short text", "Short  text"]
    return [row("site", text, f"http://x/{i}") for i, text in enumerate(texts)]


@given(seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_every_dropped_document_has_a_similar_survivor(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ctx = context(tmp_path_factory.mktemp("store"))
    rows = copies(seed)
    texts = {r["url"]: r["text"] for r in rows}
    corpus = run(ctx, [documents(ctx, "site", [rows[:8], rows[8:]])])
    verdicts = {verdict["url"]: verdict for verdict in ledger(corpus)}
    kept = set(corpus.table(["url"])["url"].to_pylist())
    assert set(verdicts) == set(texts)
    for url, verdict in verdicts.items():
        assert (verdict["verdict"] == "kept") == (url in kept)
        if url in kept:
            continue
        proof = json.loads(verdict["evidence"])
        assert proof["url"] in kept
        assert verdicts[proof["url"]]["id"] == proof["survivor"]
        one, other = texts[url], texts[proof["url"]]
        if verdict["reason"] == "exact_duplicate":
            assert " ".join(one.lower().split()) == " ".join(other.lower().split())
        else:
            assert verdict["reason"] == "near_duplicate"
            assert proof["similarity"] == jaccard(one, other) >= 0.8
    assert corpus.counts.n_in == len(rows)
    assert corpus.counts.dropped["exact_duplicate"] >= 2


@given(seed=st.integers(0, 50), cuts=st.lists(st.integers(0, 20), max_size=3), rng=st.randoms())
@settings(max_examples=12)
def test_the_corpus_does_not_depend_on_partition_or_order(
    seed: int, cuts: list[int], rng: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ctx = context(tmp_path_factory.mktemp("store"))
    rows = copies(seed)
    whole = run(ctx, [documents(ctx, "site", [rows])])
    # Identical texts of different pages have different ids, so any order selects the same pages.
    rng.shuffle(rows)
    bounds = [0, *sorted(cuts), len(rows)]
    parted = run(ctx, [documents(ctx, "site", [rows[a:b] for a, b in itertools.pairwise(bounds)])])

    def by_id(corpus: Dataset) -> list[Row]:
        return sorted(corpus.table().to_pylist(), key=lambda r: str(r["id"]))

    assert by_id(parted) == by_id(whole)
    assert sorted(ledger(parted), key=lambda v: str(v["id"])) == sorted(
        ledger(whole), key=lambda v: str(v["id"])
    )


def test_corpus_columns_masks_and_reasons(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    chapters = [{"title": "one", "start": 0}, {"title": "to a@b.cd", "start": 12}]
    rows = [
        row("site", "I am a@b.cd, hello", "http://x/0", chapters=chapters),
        row("site", "guten Tag", "http://x/1"),
        row("site", "no sentences", "http://x/2"),
        row("site", "fine", "http://x/3", title="of 10.0.0.1"),
    ]
    mail = [{"start": 5, "end": 11, "kind": "email"}]
    annotations: Annotations = [
        [
            annotation(
                pii=mail, words=5, pii_chapters=[{"chapter": 1, **mail[0], "start": 3, "end": 9}]
            ),
            annotation(language="de"),
        ],
        [
            annotation(c4_sentences=1),
            annotation(
                language_score=0.8, words=1, pii_title=[{"start": 3, "end": 11, "kind": "ip"}]
            ),
        ],
    ]
    texts = documents(ctx, "site", [rows[:2], rows[2:]])
    given_annotations = [annotated(ctx, texts, annotations)]
    corpus = run(ctx, [texts], given_annotations, languages={"en": 0.65}, quality_filters=["c4"])
    assert corpus.counts.dropped == {"language": 1, "c4_sentences": 1}
    first, last = corpus.table().to_pylist()
    assert first["text"] == "I am <EMAIL>, hello"
    assert first["chapters"] == [
        {"title": "one", "start": 0},
        {"title": "to <EMAIL>", "start": 13},
    ]
    assert last["title"] == "of <IP>"
    assert (last["text"], last["language"], last["language_score"]) == ("fine", "en", 0.8)
    assert (last["words"], last["cluster"], last["cluster_size"]) == (1, None, 1)
    evidence = [json.loads(verdict["evidence"] or "{}") for verdict in ledger(corpus)]
    assert evidence[0] == {"masked": {"email": 2}}
    assert evidence[3] == {"masked": {"ip": 1}}
    assert evidence[2]["value"] == 1
    kept = run(ctx, [texts], given_annotations, pii="keep")
    assert kept.table()["text"].to_pylist() == [r["text"] for r in rows]
    dropped = run(ctx, [texts], given_annotations, pii="drop")
    assert dropped.counts.dropped == {"pii": 2}


def test_a_document_that_fails_a_rule_does_not_survive(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    words = prose(random.Random(4), 100)
    rows = [row("site", " ".join([*words, "longest"])), row("site", " ".join(words))]
    texts = documents(ctx, "site", [rows])
    assert run(ctx, [texts]).table()["id"].to_pylist() == [rows[0]["id"]]
    annotations: Annotations = [[annotation(language="de"), annotation()]]
    english = run(ctx, [texts], [annotated(ctx, texts, annotations)], languages={"en": 0.5})
    assert english.table()["id"].to_pylist() == [rows[1]["id"]]
    assert english.counts.dropped == {"language": 1}


def test_the_document_of_the_first_source_is_kept(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    text = " ".join(prose(random.Random(4), 100))
    one, other = (documents(ctx, name, [[row(name, text)]]) for name in ("one", "other"))
    assert run(ctx, [one, other]).table()["source"].to_pylist() == ["one"]
    assert run(ctx, [other, one]).table()["source"].to_pylist() == ["other"]
    facts = run(ctx, [one, other]).stats["sources"]
    assert facts["other"] == {"passed_rules": 1, "exact_duplicate": 1, "near_duplicate": 0}


def test_settings_of_a_source_apply_to_it_alone(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    web, library = (
        documents(ctx, name, [[row(name, f"text of {name}")]]) for name in ("web", "library")
    )
    short: Annotations = [[annotation(fineweb_short_line_fraction=0.8)]]
    annotations = [annotated(ctx, texts, short) for texts in (web, library)]
    override = {"library": {"thresholds": {"fineweb_short_lines": 0.9}}}
    corpus = run(ctx, [web, library], annotations, quality_filters=["fineweb"], per_source=override)
    assert corpus.table()["source"].to_pylist() == ["library"]
    with pytest.raises(UserError, match=r"per_source\.shop: no source has this name"):
        run(ctx, [web, library], annotations, per_source={"shop": {"pii": "keep"}})


def test_a_source_that_loses_too_much_stops_the_run(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    words = prose(random.Random(4), 300)
    mirror = [[row("mirror", " ".join(words), f"http://x/{i}") for i in range(30)]]
    sources = [documents(ctx, "mirror", mirror), documents(ctx, "other", [[row("other", "x")]])]
    with pytest.raises(TooManyDuplicatesError) as caught:
        run(ctx, sources)
    assert "source 'mirror' would lose 29 of its 30 documents (96.7%)" in str(caught.value)
    assert "30 documents with http://x/0" in str(caught.value)
    assert not ctx.storage.list_files("select")
    assert run(ctx, sources, max_source_duplicate_fraction=1.0).counts.kept == 2
    assert run(ctx, sources, min_source_documents=31).counts.kept == 2


def test_documents_whose_annotation_failed_do_not_enter(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    words = prose(random.Random(4), 100)
    rows = [
        row("site", " ".join(words) + " and more"),
        row("site", "b"),
        row("site", " ".join(words)),
    ]
    texts = documents(ctx, "site", [rows])
    corpus = run(ctx, [texts], [annotated(ctx, texts, [[None, annotation(words=7), annotation()]])])
    assert corpus.counts.n_in == corpus.counts.kept == 2
    assert corpus.table()["id"].to_pylist() == [rows[1]["id"], rows[2]["id"]]
    assert corpus.table()["words"].to_pylist() == [7, 1]


def test_data_sets_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    texts = documents(ctx, "site", [[row("site", "one")]])
    longer = documents(ctx, "site", [[row("site", "one"), row("site", "two")]])
    with pytest.raises(IntegrityError, match="2 annotations"):
        run(ctx, [texts], [annotated(ctx, longer)])


@pytest.mark.e2e
def test_workers_give_the_same_bytes(tmp_path: Path) -> None:
    rows = copies(3)
    stores = []
    for workers in (0, 1, 2):
        ctx = context(tmp_path / str(workers), workers)
        with ctx.cluster:
            run(ctx, [documents(ctx, "site", [rows[:7], rows[7:14], rows[14:]])])
        stores.append({name: ctx.storage.read(name) for name in ctx.storage.list_files()})
    assert {name.split("/")[0] for name in stores[0]} >= {"signatures", "dedup", "select"}
    assert stores[0] == stores[1] == stores[2]


def test_a_new_part_does_not_change_unrelated_parts(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = copies(1)
    run(ctx, [documents(ctx, "site", [rows[:3], rows[3:9]])])
    before = set(ctx.storage.list_files("unit_cache/select"))
    new = [row("site", " ".join(prose(random.Random(99), 80)))]
    run(ctx, [documents(ctx, "site", [rows[:3], rows[3:9], new])])
    assert len(set(ctx.storage.list_files("unit_cache/select")) - before) == 1


def test_survivors_do_not_depend_on_the_partitioning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [r for seed in range(3) for r in copies(seed)]
    result = []
    for candidates in (200_000, 3):
        monkeypatch.setattr("tasks.select.task.CANDIDATES_PER_PARTITION", candidates)
        ctx = context(tmp_path / str(candidates))
        corpus = run(ctx, [documents(ctx, "site", [rows[:9], rows[9:30], rows[30:]])])
        assert corpus.counts.dropped["near_duplicate"] > 5
        assert not ctx.storage.list_files("work/select")
        result.append(corpus.manifest.to_bytes())
    assert result[0] == result[1]


def test_the_recipe_decides_which_duplicate_is_kept(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    text = " ".join(prose(random.Random(4), 100))
    old, new = (
        row("site", text, f"http://x/{year}", date=f"{year}-01-01") for year in (2001, 2020)
    )
    texts = documents(ctx, "site", [[old, new]])
    for order, kept_count in (("newest", new), ("oldest", old)):
        corpus = run(ctx, [texts], prefer=[order])
        assert corpus.table()["id"].to_pylist() == [kept_count["id"]]
    annotations = [
        annotated(ctx, texts, [[annotation(language_score=0.9), annotation(language_score=0.7)]])
    ]
    for order, kept_count in (("highest:language_score", old), ("lowest:language_score", new)):
        corpus = run(ctx, [texts], annotations, prefer=[order])
        assert corpus.table()["id"].to_pylist() == [kept_count["id"]]


def test_evidence_has_the_band_that_the_pair_shares(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    words = prose(random.Random(4), 300)
    near = " ".join(edited(random.Random(5), words, 1))
    texts = documents(ctx, "site", [[row("site", " ".join(words)), row("site", near)]])
    (dropped,) = [json.loads(v["evidence"]) for v in ledger(run(ctx, [texts])) if v["reason"]]
    assert 0 <= dropped["band"] < 14
    assert dropped["similarity"] == jaccard(" ".join(words), near)


def test_two_concurrent_runs_commit_one_corpus(tmp_path: Path) -> None:
    rows = [r for seed in range(2) for r in copies(seed)]
    alone = context(tmp_path / "alone")
    expected = run(alone, [documents(alone, "site", [rows[:20], rows[20:]])])
    ctx = context(tmp_path / "raced")
    texts = documents(ctx, "site", [rows[:20], rows[20:]])
    with ThreadPoolExecutor(3) as pool:
        result = list(pool.map(lambda _: run(ctx, [texts]), range(3)))
    assert {data.manifest.to_bytes() for data in result} == {expected.manifest.to_bytes()}


@pytest.mark.parametrize("order", [["source", "longest"], ["shortest"], ["source"]])
@pytest.mark.parametrize("pairs", [500, 20])
def test_one_document_of_a_large_cluster_is_kept(
    tmp_path: Path, order: list[str], pairs: int
) -> None:
    rng = random.Random(6)
    base = prose(rng, 400)
    rows = [row("site", " ".join(edited(rng, base, 2)), f"http://x/{k}") for k in range(150)]
    ctx = context(tmp_path)
    texts = documents(ctx, "site", [rows])
    near: dict[str, Any] = {
        "config": DedupConfig(exhaustive_cluster_size=pairs),
        "documents": [texts],
    }
    labels = dedup.build(ctx, dedup.spec(ctx, **near), **near)
    assert labels.stats["clusters"] == 1
    assert (labels.stats["uncompared_intra_cluster_pairs"] == 0) == (pairs == 500)
    inputs: dict[str, Any] = {
        "config": SelectConfig.model_validate(
            {
                "languages": {},
                "quality_filters": [],
                "prefer": order,
                "max_source_duplicate_fraction": 1.0,
            }
        ),
        "documents": [texts],
        "annotations": [annotated(ctx, texts)],
        "duplicate_labels": labels,
    }
    kept = select.build(ctx, select.spec(ctx, **inputs), **inputs).counts.kept
    assert kept == 1 if pairs == 500 else 1 <= kept < 50


def test_a_survivor_is_kept_however_little_text_it_has_left(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(7)
    line, more, own = (" ".join(prose(rng, words)) for words in (62, 100, 45))
    texts = [f"{line}\n{more}", f"{line}\n{own}", f"{line}\n{own} and a few words more here now"]
    rows = [
        row("site", text, f"http://x/{k}", date=f"{2021 - k}-01-01") for k, text in enumerate(texts)
    ]
    source = documents(ctx, "site", [rows[:1], rows[1:]])
    for keep in ("first", "none"):
        corpus = run(
            ctx,
            [source],
            prefer=["newest"],
            line_dedup={"min_documents": 2, "keep": keep, "min_words": 50},
        )
        kept = set(corpus.table()["id"].to_pylist())
        named = [json.loads(v["evidence"]) for v in ledger(corpus) if v["reason"]]
        assert [item["survivor"] for item in named] == [rows[1]["id"]]
        assert rows[1]["id"] in kept
