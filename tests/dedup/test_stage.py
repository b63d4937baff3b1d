"""The stage over small corpora: its results, and that they do not depend on the partitioning."""

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
from tests.dedup.stage import corpus, labels, run, verified_pairs
from tests.select.annotations import annotated, annotation


def test_planted_duplicates_are_found_and_nothing_else(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(7)
    result = run(ctx, [documents(ctx, "site", [rows[:9], rows[9:]])])
    by_url = {r["url"]: labels(result)[r["id"]] for r in rows}
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
    assert result.stats["short_documents"] == 5
    assert result.stats["exact_duplicates"] == 4
    assert result.stats["verified"] == len(verified_pairs(result)) == 3
    assert result.stats["candidates"] == result.stats["verified"] + result.stats["rejected"]
    assert result.counts.kept == result.counts.n_in == len(rows)
    texts = [[r["text"] for r in rows[:9]], [r["text"] for r in rows[9:]]]
    for pair in verified_pairs(result):
        one, other = (texts[pair[f"part_{x}"]][pair[f"row_{x}"]] for x in "ab")
        assert pair["similarity"] == jaccard(one, other) >= 0.8


def test_distinct_books_that_share_a_long_license_are_not_duplicates(tmp_path: Path) -> None:
    rng = random.Random(11)
    shared = prose(rng, 3000)
    books = [" ".join(prose(rng, 2500) + shared) for _ in range(6)]
    ctx = context(tmp_path)
    result = run(ctx, [documents(ctx, "library", [[row("library", book) for book in books]])])
    # They share 0.37 of their shingles: below the threshold, whether or not they are candidates.
    assert 0.3 < jaccard(books[0], books[1]) < 0.5
    assert {size for _, _, size in labels(result).values()} == {1}
    # Even if nearly every pair is a candidate, verification rejects it.
    eager = run(
        ctx, [documents(ctx, "library", [[row("library", book) for book in books]])], rows=1
    )
    assert eager.stats["rejected"] == eager.stats["candidates"] == 15
    assert {size for _, _, size in labels(eager).values()} == {1}


@given(seed=st.integers(0, 50), cuts=st.lists(st.integers(0, 22), max_size=4), shuffle=st.randoms())
@settings(max_examples=15)
def test_labels_do_not_depend_on_parts_or_order(
    seed: int, cuts: list[int], shuffle: random.Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = corpus(seed)
    ctx = context(tmp_path_factory.mktemp("store"))
    whole = run(ctx, [documents(ctx, "site", [rows])], exhaustive_bucket_size=2, neighbors=1)
    shuffle.shuffle(rows)
    bounds = [0, *sorted(cuts), len(rows)]
    pieces = [rows[a:b] for a, b in itertools.pairwise(bounds)]
    parted = run(ctx, [documents(ctx, "site", pieces)], exhaustive_bucket_size=2, neighbors=1)
    assert labels(parted) == labels(whole)
    assert sorted(e["similarity"] for e in verified_pairs(parted)) == sorted(
        e["similarity"] for e in verified_pairs(whole)
    )
    assert [part.num_rows for part in parted.parts] == [len(piece) for piece in pieces]


def test_sources_are_joined_and_parts_numbered_in_recipe_order(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    text = " ".join(prose(random.Random(2), 50))
    one = documents(ctx, "one", [[row("one", "something else")], [row("one", text)]])
    other = documents(ctx, "other", [[row("other", text + "!")]])
    result = run(ctx, [one, other])
    assert [part.name for part in result.parts] == ["00000", "00001", "00002"]
    (pair,) = verified_pairs(result)
    assert (pair["part_a"], pair["part_b"], pair["similarity"]) == (1, 2, 1.0)
    (largest,) = result.stats["largest_clusters"]
    assert largest["sources"] == {"one": 1, "other": 1}
    assert [member["source"] for member in largest["members"]] == ["one", "other"]


def test_no_documents(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    result = run(ctx, [documents(ctx, "site", [[]]), documents(ctx, "void", [])])
    assert result.counts.n_in == 0
    assert result.stats["clusters"] == 0
    assert verified_pairs(result) == []


def test_the_result_does_not_depend_on_memory(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [r for seed in range(2) for r in corpus(seed)]
    base = prose(rng, 120)
    rows += [row("site", " ".join(edited(rng, base, 1)), f"http://y/{k}") for k in range(12)]
    result = []
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
        result.append(data)
        assert ctx.storage.list_folders("work/dedup") == []
    assert result[0].manifest.to_bytes() == result[1].manifest.to_bytes()
    assert result[0].manifest.to_bytes() == result[2].manifest.to_bytes()


def test_pairs_within_clusters_fit_into_the_memory_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    rows = []
    for family in range(12):
        base = prose(rng, 30)
        texts = (" ".join(edited(rng, base, 1)) for _ in range(100))
        rows += [row("site", text, f"http://{family}/{k}") for k, text in enumerate(texts)]
    # Few candidate pairs connect many documents: most compared pairs are added within clusters.
    settings = {
        "threshold": 0.5,
        "bands": 2,
        "rows": 3,
        "exhaustive_bucket_size": 2,
        "neighbors": 1,
    }
    peaks: list[int] = []

    def traced(plan: DedupPlan, number: int) -> dict[str, Any]:
        tracemalloc.start()
        result = verify(plan, number)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        return result

    bytes_ = []
    for memory in ("512MB", "2MB"):
        ctx = context(tmp_path / memory)
        result = run(ctx, [documents(ctx, "site", [rows])], partition_memory=memory, **settings)
        bytes_.append(result.manifest.to_bytes())
        assert result.stats["intra_cluster_pairs"] > 10 * result.stats["candidates"]
        monkeypatch.setattr("tasks.dedup.verification.verify.verify", traced)  # compiled by now
    assert max(peaks) < 2_000_000
    assert bytes_[0] == bytes_[1]


def test_every_verified_pair_of_a_cluster_is_known(tmp_path: Path) -> None:
    rng = random.Random(9)
    base = prose(rng, 300)
    rows = [row("site", " ".join(edited(rng, base, 2)), f"http://x/{k}") for k in range(12)]
    ctx = context(tmp_path)
    result = run(ctx, [documents(ctx, "site", [rows])], rows=20, bands=2)  # few candidates
    pairs = {(e["row_a"], e["row_b"]): e for e in verified_pairs(result)}
    clusters: dict[str | None, list[int]] = {}
    for number, r in enumerate(rows):
        clusters.setdefault(labels(result)[r["id"]][1], []).append(number)
    named = [members for name, members in clusters.items() if name is not None]
    assert named
    for members in named:
        for a, b in itertools.combinations(members, 2):
            similarity = jaccard(rows[a]["text"], rows[b]["text"])
            assert ((a, b) in pairs) == (similarity >= 0.8)
            if (a, b) in pairs:
                assert pairs[a, b]["similarity"] == similarity
    assert {pair["band"] for pair in pairs.values()} == {-1, 0, 1}


def test_duplicates_are_searched_for_within_their_scope(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rng = random.Random(8)
    words = prose(rng, 200)
    near = " ".join(edited(rng, words, 1))
    sources = [
        documents(ctx, name, [[row(name, " ".join(words)), row(name, near)]])
        for name in ("one", "other")
    ]
    wide = run(ctx, sources)
    assert {size for _, _, size in labels(wide).values()} == {4}
    narrow = run(ctx, sources, scope="source")
    assert {size for _, _, size in labels(narrow).values()} == {2}
    assert len({cluster for _, cluster, _ in labels(narrow).values()}) == 2
    assert narrow.stats["exact_duplicates"] == 0
    assert narrow.stats["clusters"] == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_cluster": 2}, "a cluster of 8 documents; dedup.max_cluster allows 2"),
        ({"max_bucket": 3}, "8 documents share one band; dedup.max_bucket allows 3"),
    ],
)
def test_too_many_duplicates_stop_the_run(
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
        ctx.storage.remove(name)  # files that are not committed may be cleaned up
    again = run(ctx, [documents(ctx, "site", [rows])], max_cluster=8, max_bucket=8)
    assert again.stats["clusters"] == 1
    assert len(verified_pairs(again)) > 0


def test_signatures_alone_can_decide(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    rows = corpus(5)
    exact = run(ctx, [documents(ctx, "site", [rows])])
    estimated = run(ctx, [documents(ctx, "site", [rows])], verification="signature")
    assert labels(exact) == labels(estimated)
    assert all(abs(e["similarity"] - 0.95) < 0.15 for e in verified_pairs(estimated))


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
    languages = ["th", "th", "en", "en", "de"]
    source = documents(ctx, "site", [[row("site", text) for text in texts]])
    annotations = annotated(
        ctx, source, [[annotation(language=language) for language in languages]]
    )

    def clusters(**settings: Any) -> list[str | None]:
        config = DedupConfig.model_validate(settings)
        inputs: dict[str, Any] = {
            "config": config,
            "documents": [source],
            "annotations": [annotations],
        }
        result = dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs)
        names: list[str | None] = result.table(["cluster"])["cluster"].to_pylist()
        return names

    thai_by_letters = {"th": {"shingle_unit": "characters", "ngram": 12}}
    a, b, c, d, e = clusters(languages=thai_by_letters)
    assert a == b is not None
    assert c == d == e is not None
    a, b, c, d, e = clusters(scope="language")
    assert a is b is e is None
    assert c == d is not None
