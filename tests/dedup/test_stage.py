"""The stage over small corpora: what is found, and what does not depend on how the work is cut."""

import itertools
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.copies import edges as edge_tables
from infra.dataset import Dataset
from infra.progress import Progress, Silent
from infra.removals import removal
from infra.stage import Context
from tasks.dedup.config import DedupConfig
from tasks.dedup.layout import Layout
from tasks.dedup.signatures import STAGE as SIGNATURES
from tasks.dedup.task import COMPARISON, ImplausibleCopies, dedup
from tasks.dedup.verify import need
from tasks.dedup.words import shingles
from tests.dedup.corpora import Row, context, documents, edited, jaccard, prose, row
from tests.select.notes import annotated, note

Marks = dict[str, tuple[str | None, str | None, int]]


def run(ctx: Context, sources: Sequence[Dataset], **settings: object) -> Dataset:
    inputs = {"config": DedupConfig.model_validate(settings), "documents": list(sources)}
    return dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs)


def edges(found: Dataset) -> list[Row]:
    return [row for table in edge_tables(found) for row in table.to_pylist()]


def marks(found: Dataset) -> Marks:
    return {
        r["id"]: (r["exact_group"], r["cluster"], r["cluster_size"])
        for r in found.table().to_pylist()
    }


def corpus(seed: int) -> list[Row]:
    """Twelve texts; three with near copies, two with exact ones, and some very short."""
    rng = random.Random(seed)
    originals = [prose(rng, rng.randint(80, 400)) for _ in range(12)]
    texts = [" ".join(words) for words in originals]
    texts += [" ".join(edited(rng, words, 1 + len(words) // 100)) for words in originals[:3]]
    texts += [texts[5].upper(), f"  {texts[6]}\n"]
    texts += ["only four words here", "Only four  words here", "two words", "", " "]
    return [row("site", text, f"http://x/{i}") for i, text in enumerate(texts)]


def test_planted_copies_are_found_and_nothing_else(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(7)
    found = run(ctx, [documents(ctx, "site", [rows[:9], rows[9:]])])
    by_url = {r["url"]: marks(found)[r["id"]] for r in rows}
    clusters: dict[str, set[int]] = {}
    for number in range(len(rows)):
        _, cluster, size = by_url[f"http://x/{number}"]
        if cluster is None:
            assert size == 1
        else:
            clusters.setdefault(cluster, set()).add(number)
    expected = [{0, 12}, {1, 13}, {2, 14}, {5, 15}, {6, 16}, {17, 18}, {20, 21}]
    assert sorted(clusters.values(), key=min) == expected
    assert by_url["http://x/5"][0] == by_url["http://x/15"][0] is not None
    assert by_url["http://x/0"][0] is None
    assert found.facts["short_documents"] == 5
    assert found.facts["exact_duplicates"] == 4
    assert found.facts["verified"] == len(edges(found)) == 3
    assert found.facts["candidates"] == found.facts["verified"] + found.facts["rejected"]
    assert found.counts.kept == found.counts.in_ == len(rows)
    texts = [[r["text"] for r in rows[:9]], [r["text"] for r in rows[9:]]]
    for edge in edges(found):
        one, other = (texts[edge[f"part_{x}"]][edge[f"row_{x}"]] for x in "ab")
        assert edge["similarity"] == jaccard(one, other) >= 0.8


def test_distinct_books_that_share_a_long_licence_survive(tmp_path: Path) -> None:
    rng = random.Random(11)
    licence = prose(rng, 3000)
    books = [" ".join(prose(rng, 2500) + licence) for _ in range(6)]
    ctx = context(tmp_path)
    found = run(ctx, [documents(ctx, "library", [[row("library", book) for book in books]])])
    # They share 0.37 of their shingles: below the threshold, whatever bands nominate.
    assert 0.3 < jaccard(books[0], books[1]) < 0.5
    assert {size for _, _, size in marks(found).values()} == {1}
    # Even where nearly every pair is nominated, verification rejects it.
    eager = run(
        ctx, [documents(ctx, "library", [[row("library", book) for book in books]])], rows=1
    )
    assert eager.facts["rejected"] == eager.facts["candidates"] == 15
    assert {size for _, _, size in marks(eager).values()} == {1}


@given(seed=st.integers(0, 50), cuts=st.lists(st.integers(0, 22), max_size=4), shuffle=st.randoms())
@settings(max_examples=15)
def test_marks_do_not_depend_on_partition_or_order(
    seed: int, cuts: list[int], shuffle: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = corpus(seed)
    ctx = context(tmp_path_factory.mktemp("store"))
    whole = run(ctx, [documents(ctx, "site", [rows])], bucket=2, neighbours=1)
    shuffle.shuffle(rows)
    bounds = [0, *sorted(cuts), len(rows)]
    pieces = [rows[a:b] for a, b in itertools.pairwise(bounds)]
    parted = run(ctx, [documents(ctx, "site", pieces)], bucket=2, neighbours=1)
    assert marks(parted) == marks(whole)
    assert sorted(e["similarity"] for e in edges(parted)) == sorted(
        e["similarity"] for e in edges(whole)
    )
    assert [part.rows for part in parted.parts] == [len(piece) for piece in pieces]


def test_a_new_part_costs_its_own_signatures_only(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(1)
    run(ctx, [documents(ctx, "site", [rows[:8], rows[8:16]])])
    before = set(ctx.storage.list("receipts/signatures"))
    run(ctx, [documents(ctx, "site", [rows[:8], rows[8:16], rows[16:]])])
    assert len(set(ctx.storage.list("receipts/signatures")) - before) == 1


def test_sources_are_joined_and_parts_numbered_in_recipe_order(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    text = " ".join(prose(random.Random(2), 50))
    one = documents(ctx, "one", [[row("one", "something else")], [row("one", text)]])
    other = documents(ctx, "other", [[row("other", text + "!")]])
    found = run(ctx, [one, other])
    assert [part.name for part in found.parts] == ["00000", "00001", "00002"]
    (edge,) = edges(found)
    assert (edge["part_a"], edge["part_b"], edge["similarity"]) == (1, 2, 1.0)
    (largest,) = found.facts["largest_clusters"]
    assert largest["sources"] == {"one": 1, "other": 1}
    assert [member["source"] for member in largest["members"]] == ["one", "other"]


def test_no_documents(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    found = run(ctx, [documents(ctx, "site", [[]]), documents(ctx, "void", [])])
    assert found.counts.in_ == 0
    assert found.facts["clusters"] == 0
    assert edges(found) == []


def test_what_is_found_does_not_depend_on_memory(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [r for seed in range(2) for r in corpus(seed)]
    base = prose(rng, 120)
    rows += [row("site", " ".join(edited(rng, base, 1)), f"http://y/{k}") for k in range(12)]
    found = []
    for memory in ("512MiB", "20kB", "6kB"):
        ctx = context(tmp_path / memory)
        parts = [rows[start : start + 20] for start in range(0, len(rows), 20)]
        data = run(ctx, [documents(ctx, "site", parts)], memory=memory, bucket=6, neighbours=2)
        assert data.facts["skewed_buckets"] > 0
        found.append(data)
        assert ctx.storage.folders("work/dedup") == []
    assert found[0].manifest.to_bytes() == found[1].manifest.to_bytes()
    assert found[0].manifest.to_bytes() == found[2].manifest.to_bytes()


def test_every_verified_pair_of_a_cluster_is_known(tmp_path: Path) -> None:
    rng = random.Random(9)
    base = prose(rng, 300)
    rows = [row("site", " ".join(edited(rng, base, 2)), f"http://x/{k}") for k in range(12)]
    ctx = context(tmp_path)
    found = run(ctx, [documents(ctx, "site", [rows])], rows=20, bands=2)  # few nominations
    pairs = {(e["row_a"], e["row_b"]): e for e in edges(found)}
    clusters: dict[str | None, list[int]] = {}
    for number, r in enumerate(rows):
        clusters.setdefault(marks(found)[r["id"]][1], []).append(number)
    named = [members for name, members in clusters.items() if name is not None]
    assert named
    for members in named:
        for a, b in itertools.combinations(members, 2):
            similarity = jaccard(rows[a]["text"], rows[b]["text"])
            assert ((a, b) in pairs) == (similarity >= 0.8)
            if (a, b) in pairs:
                assert pairs[a, b]["similarity"] == similarity
    assert {edge["band"] for edge in pairs.values()} == {-1, 0, 1}


@given(seed=st.integers(0, 20), cut=st.integers(1, 22), shuffle=st.randoms())
@settings(max_examples=8)
def test_an_addition_gives_the_bytes_of_a_full_run_and_reads_no_old_text(
    seed: int, cut: int, shuffle: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = corpus(seed)
    shuffle.shuffle(rows)
    pieces = [rows[:cut], rows[cut:]]
    grown, fresh = (context(tmp_path_factory.mktemp("store")) for _ in range(2))
    options: dict[str, Any] = {"bucket": 2, "neighbours": 1}
    run(grown, [documents(grown, "site", pieces[:1])], **options)
    more = run(grown, [documents(grown, "site", pieces)], **options)
    full = run(fresh, [documents(fresh, "site", pieces)], **options)
    assert more.manifest.to_bytes() == full.manifest.to_bytes()


def test_a_new_document_asks_for_the_texts_it_may_resemble_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(2)
    template = prose(rng, 200)
    rows = [row("site", " ".join(template + prose(rng, 70)), f"http://x/{k}") for k in range(30)]
    asked: list[int] = []

    def counted(layout: Layout, number: int) -> dict[str, Any]:
        found = need(layout, number)
        asked.append(found["asked"])
        return found

    monkeypatch.setattr("tasks.dedup.verify.need", counted)
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
    expected = run(fresh, [documents(fresh, "site", [rows, more])]).manifest.to_bytes()
    for harm in ("gone", "changed"):
        ctx = context(tmp_path / harm)
        first = run(ctx, [documents(ctx, "site", [rows])])
        name = "edges-00000.parquet"
        if harm == "gone":
            first.storage.remove(name)
        else:
            first.storage.put(name, first.storage.read(name)[:-40] + bytes(40))
        found = run(ctx, [documents(ctx, "site", [rows, more])])
        assert found.manifest.to_bytes() == expected


def test_what_comparisons_rest_on_covers_what_signatures_rest_on() -> None:
    own = {name for name in SIGNATURES.modules if name.startswith("tasks.dedup")}
    assert own - {"tasks.dedup.signatures"} <= set(COMPARISON)


def test_known_pairs_are_looked_up_and_not_compared_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="tasks.dedup.join")
    rows = corpus(4)
    ctx = context(tmp_path)
    run(ctx, [documents(ctx, "site", [rows])])
    assert "dedup: 3 candidate pairs, 3 compared now" in caplog.text
    more = [row("site", "a text of its own that is like no other", "http://z/")]
    run(ctx, [documents(ctx, "site", [rows, more])])
    assert "dedup: 3 candidate pairs, 0 compared now" in caplog.text


def test_copies_are_looked_for_within_their_scope(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(8)
    words = prose(rng, 200)
    near = " ".join(edited(rng, words, 1))
    sources = [
        documents(ctx, name, [[row(name, " ".join(words)), row(name, near)]])
        for name in ("one", "other")
    ]
    wide = run(ctx, sources)
    assert {size for _, _, size in marks(wide).values()} == {4}
    narrow = run(ctx, sources, scope="source")
    assert {size for _, _, size in marks(narrow).values()} == {2}
    assert len({cluster for _, cluster, _ in marks(narrow).values()}) == 2
    assert narrow.facts["exact_duplicates"] == 0
    assert narrow.facts["clusters"] == 2


def test_removed_documents_are_as_if_they_had_never_been(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(2)
    gone = [rows[0], rows[6], rows[17]]
    taken = [removal("id", r["id"]) for r in gone]
    whole = documents(ctx, "site", [rows])
    config = DedupConfig.model_validate({})
    inputs: dict[str, Any] = {"config": config, "documents": [whole], "removals": taken}
    found = marks(dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs))
    never = marks(run(ctx, [documents(ctx, "site", [[r for r in rows if r not in gone]])]))
    assert {key: value for key, value in found.items() if key in never} == never
    assert {found[r["id"]] for r in gone} == {(None, None, 0)}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_cluster": 2}, "a cluster of 8 documents; dedup.max_cluster allows 2"),
        ({"max_bucket": 3}, "8 documents share one band; dedup.max_bucket allows 3"),
    ],
)
def test_implausibly_many_copies_stop_the_run(
    tmp_path: Path, setting: dict[str, int], message: str
) -> None:
    ctx = context(tmp_path)
    rng = random.Random(6)
    base = prose(rng, 2000)
    rows = [row("site", " ".join(edited(rng, base, 1)), f"http://x/{k}") for k in range(8)]
    with pytest.raises(ImplausibleCopies, match=message) as stopped:
        run(ctx, [documents(ctx, "site", [rows])], **setting)
    assert "8 documents with http://x/0. Nothing was committed" in str(stopped.value)
    assert not [name for name in ctx.storage.list("dedup") if name.endswith("manifest.json")]
    again = run(ctx, [documents(ctx, "site", [rows])], max_cluster=8, max_bucket=8)
    assert again.facts["clusters"] == 1


def test_signatures_alone_can_decide(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(5)
    exact = run(ctx, [documents(ctx, "site", [rows])])
    estimated = run(ctx, [documents(ctx, "site", [rows])], verify="signature")
    assert marks(exact) == marks(estimated)
    assert all(abs(e["similarity"] - 0.95) < 0.15 for e in edges(estimated))


def test_characters_as_shingles(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(4)
    thai = "".join(chr(rng.randrange(0x0E01, 0x0E2F)) for _ in range(600))
    rows = [row("site", thai), row("site", thai[:300] + "\u0e2f" + thai[300:])]
    assert (
        run(ctx, [documents(ctx, "site", [rows])], ngram=12, unit="characters").facts["clusters"]
        == 1
    )
    assert run(ctx, [documents(ctx, "site", [rows])]).facts["clusters"] == 0


def test_a_language_has_its_own_shingles_and_its_own_scope(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(4)
    thai = "".join(chr(rng.randrange(0x0E01, 0x0E2F)) for _ in range(600))
    english = " ".join(prose(rng, 200))
    texts = [thai, thai[:300] + "\u0e2f" + thai[300:], english, english + " end", english]
    spoken = ["th", "th", "en", "en", "de"]
    source = documents(ctx, "site", [[row("site", text) for text in texts]])
    notes = annotated(ctx, source, [[note(language=language) for language in spoken]])

    def clusters(**settings: Any) -> list[str | None]:
        config = DedupConfig.model_validate(settings)
        inputs: dict[str, Any] = {"config": config, "documents": [source], "notes": [notes]}
        found = dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs)
        names: list[str | None] = found.table(["cluster"])["cluster"].to_pylist()
        return names

    thai_by_letters = {"th": {"unit": "characters", "ngram": 12}}
    a, b, c, d, e = clusters(languages=thai_by_letters)
    assert a == b is not None
    assert c == d == e is not None
    a, b, c, d, e = clusters(scope="language")
    assert a is b is e is None
    assert c == d is not None


def test_pairs_are_compared_anew_where_their_languages_changed(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(4)
    words = prose(rng, 150)
    texts = [" ".join(words), " ".join(edited(rng, words, 3))]
    source = documents(ctx, "site", [[row("site", text) for text in texts]])
    config = DedupConfig.model_validate({"languages": {"de": {"unit": "characters", "ngram": 9}}})
    found = []
    for language in ("en", "de"):
        notes = annotated(ctx, source, [[note(language=language) for _ in texts]])
        inputs: dict[str, Any] = {"config": config, "documents": [source], "notes": [notes]}
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
            found.append(run(ctx, [documents(ctx, "site", parts)], memory="20kB"))
    assert len({data.manifest.to_bytes() for data in found}) == 1


class Stopped(Exception):
    """The run was cut off."""


class Watcher(Silent):
    """Acts when a step of the join begins."""

    def __init__(self, act: Callable[[str], None]) -> None:
        self.act = act
        self.steps: list[str] = []

    def update(self, progress: Progress) -> None:
        if progress.note and progress.stage == "dedup":
            self.steps.append(progress.note)
            self.act(progress.note)


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
    options = {"memory": "20kB", "bucket": 3, "neighbours": 1}
    watcher = Watcher(lambda _: None)
    whole = replace(context(tmp_path / "whole"), reporter=watcher)
    expected = run(whole, [documents(whole, "site", parts)], **options).manifest.to_bytes()
    assert {"crowded pairs", "verification"} < set(watcher.steps)
    for number, step in enumerate(watcher.steps):
        ctx = context(tmp_path / str(number))
        cut = replace(ctx, reporter=Watcher(stop_at(step)))
        with pytest.raises(Stopped):
            run(cut, [documents(cut, "site", parts)], **options)
        assert not [name for name in ctx.storage.list("dedup") if name.endswith("manifest.json")]
        done = len(ctx.storage.list("work"))
        found = run(ctx, [documents(ctx, "site", parts)], **options)
        assert found.manifest.to_bytes() == expected
        assert done > 0 or number == 0


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_a_worker_killed_in_the_middle_costs_its_tasks_and_no_byte(tmp_path: Path) -> None:
    rows = [r for seed in range(3) for r in corpus(seed)]
    parts = [rows[start : start + 8] for start in range(0, len(rows), 8)]
    quiet = context(tmp_path / "quiet")
    expected = run(quiet, [documents(quiet, "site", parts)], memory="20kB").manifest.to_bytes()
    ctx = context(tmp_path / "killed", workers=2)
    killed: list[int] = []

    def kill(step: str) -> None:
        if step in ("buckets", "texts", "marks"):
            (pid, *_) = ctx.cluster.client().run(os.getpid).values()
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    with ctx.cluster:
        watched = replace(ctx, reporter=Watcher(kill))
        found = run(watched, [documents(watched, "site", parts)], memory="20kB")
    assert len(killed) == 3
    assert found.manifest.to_bytes() == expected
