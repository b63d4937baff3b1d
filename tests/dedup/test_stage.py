"""The stage over small corpora: what is found, and what does not depend on how the work is cut."""

import itertools
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dedup import task as dedup
from tasks.dedup.config import DedupConfig
from tasks.dedup.shuffle_plan import DedupPlan
from tasks.dedup.task import ClusterTooLargeError
from tasks.dedup.verification.verify import verify
from tests.dedup.corpora import context, documents, edited, jaccard, prose, row
from tests.dedup.stage import corpus, edges, marks, run
from tests.select.annotations import annotated, note


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
    assert found.stats["short_documents"] == 5
    assert found.stats["exact_duplicates"] == 4
    assert found.stats["verified"] == len(edges(found)) == 3
    assert found.stats["candidates"] == found.stats["verified"] + found.stats["rejected"]
    assert found.counts.kept == found.counts.n_in == len(rows)
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
    assert eager.stats["rejected"] == eager.stats["candidates"] == 15
    assert {size for _, _, size in marks(eager).values()} == {1}


@given(seed=st.integers(0, 50), cuts=st.lists(st.integers(0, 22), max_size=4), shuffle=st.randoms())
@settings(max_examples=15)
def test_marks_do_not_depend_on_partition_or_order(
    seed: int, cuts: list[int], shuffle: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = corpus(seed)
    ctx = context(tmp_path_factory.mktemp("store"))
    whole = run(ctx, [documents(ctx, "site", [rows])], exhaustive_bucket_size=2, neighbors=1)
    shuffle.shuffle(rows)
    bounds = [0, *sorted(cuts), len(rows)]
    pieces = [rows[a:b] for a, b in itertools.pairwise(bounds)]
    parted = run(ctx, [documents(ctx, "site", pieces)], exhaustive_bucket_size=2, neighbors=1)
    assert marks(parted) == marks(whole)
    assert sorted(e["similarity"] for e in edges(parted)) == sorted(
        e["similarity"] for e in edges(whole)
    )
    assert [part.num_rows for part in parted.parts] == [len(piece) for piece in pieces]


def test_sources_are_joined_and_parts_numbered_in_recipe_order(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    text = " ".join(prose(random.Random(2), 50))
    one = documents(ctx, "one", [[row("one", "something else")], [row("one", text)]])
    other = documents(ctx, "other", [[row("other", text + "!")]])
    found = run(ctx, [one, other])
    assert [part.name for part in found.parts] == ["00000", "00001", "00002"]
    (edge,) = edges(found)
    assert (edge["part_a"], edge["part_b"], edge["similarity"]) == (1, 2, 1.0)
    (largest,) = found.stats["largest_clusters"]
    assert largest["sources"] == {"one": 1, "other": 1}
    assert [member["source"] for member in largest["members"]] == ["one", "other"]


def test_no_documents(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    found = run(ctx, [documents(ctx, "site", [[]]), documents(ctx, "void", [])])
    assert found.counts.n_in == 0
    assert found.stats["clusters"] == 0
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
        data = run(
            ctx,
            [documents(ctx, "site", parts)],
            partition_memory=memory,
            exhaustive_bucket_size=6,
            neighbors=2,
        )
        assert data.stats["oversized_buckets"] > 0
        found.append(data)
        assert ctx.storage.list_folders("work/dedup") == []
    assert found[0].manifest.to_bytes() == found[1].manifest.to_bytes()
    assert found[0].manifest.to_bytes() == found[2].manifest.to_bytes()


def test_a_worker_holds_the_pairs_within_clusters_that_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    rows = []
    for family in range(12):
        base = prose(rng, 30)
        texts = (" ".join(edited(rng, base, 1)) for _ in range(100))
        rows += [row("site", text, f"http://{family}/{k}") for k, text in enumerate(texts)]
    # Few pairs are nominated, and they link many: what clusters add is most of what is compared.
    settings = {
        "threshold": 0.5,
        "bands": 2,
        "rows": 3,
        "exhaustive_bucket_size": 2,
        "neighbors": 1,
    }
    peaks: list[int] = []

    def traced(layout: DedupPlan, number: int) -> dict[str, Any]:
        tracemalloc.start()
        found = verify(layout, number)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        return found

    bytes_ = []
    for memory in ("512MB", "2MB"):
        ctx = context(tmp_path / memory)
        found = run(ctx, [documents(ctx, "site", [rows])], partition_memory=memory, **settings)
        bytes_.append(found.manifest.to_bytes())
        assert found.stats["within_clusters"] > 10 * found.stats["candidates"]
        monkeypatch.setattr("tasks.dedup.verification.verify.verify", traced)  # compiled by now
    assert max(peaks) < 2_000_000
    assert bytes_[0] == bytes_[1]


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
    assert narrow.stats["exact_duplicates"] == 0
    assert narrow.stats["clusters"] == 2


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
    with pytest.raises(ClusterTooLargeError, match=message) as stopped:
        run(ctx, [documents(ctx, "site", [rows])], **setting)
    assert "8 documents with http://x/0. Nothing was committed" in str(stopped.value)
    assert not [name for name in ctx.storage.list_files("dedup") if name.endswith("manifest.json")]
    for name in ctx.storage.list_files("dedup"):
        ctx.storage.remove(name)  # what is not committed may be tidied up
    again = run(ctx, [documents(ctx, "site", [rows])], max_cluster=8, max_bucket=8)
    assert again.stats["clusters"] == 1
    assert len(edges(again)) > 0


def test_signatures_alone_can_decide(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(5)
    exact = run(ctx, [documents(ctx, "site", [rows])])
    estimated = run(ctx, [documents(ctx, "site", [rows])], verification="signature")
    assert marks(exact) == marks(estimated)
    assert all(abs(e["similarity"] - 0.95) < 0.15 for e in edges(estimated))


def test_characters_as_shingles(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(4)
    thai = "".join(chr(rng.randrange(0x0E01, 0x0E2F)) for _ in range(600))
    rows = [row("site", thai), row("site", thai[:300] + "\u0e2f" + thai[300:])]
    assert (
        run(ctx, [documents(ctx, "site", [rows])], ngram=12, shingle_unit="characters").stats[
            "clusters"
        ]
        == 1
    )
    assert run(ctx, [documents(ctx, "site", [rows])]).stats["clusters"] == 0


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
        inputs: dict[str, Any] = {"config": config, "documents": [source], "annotations": [notes]}
        found = dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs)
        names: list[str | None] = found.table(["cluster"])["cluster"].to_pylist()
        return names

    thai_by_letters = {"th": {"shingle_unit": "characters", "ngram": 12}}
    a, b, c, d, e = clusters(languages=thai_by_letters)
    assert a == b is not None
    assert c == d == e is not None
    a, b, c, d, e = clusters(scope="language")
    assert a is b is e is None
    assert c == d is not None
