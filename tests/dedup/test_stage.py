"""The stage over small corpora: what is found, and what does not depend on how the work is cut."""

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.dataset import Dataset
from infra.stage import Context
from tasks.dedup.config import DedupConfig
from tasks.dedup.task import EDGES, dedup
from tests.dedup.corpora import Row, context, documents, edited, jaccard, prose, row

Marks = dict[str, tuple[str | None, str | None, int]]


def run(ctx: Context, sources: Sequence[Dataset], **settings: object) -> Dataset:
    inputs = {"config": DedupConfig.model_validate(settings), "documents": list(sources)}
    return dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs)


def edges(found: Dataset) -> list[Row]:
    rows: list[Row] = pq.read_table(pa.BufferReader(found.read(EDGES))).to_pylist()
    return rows


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
