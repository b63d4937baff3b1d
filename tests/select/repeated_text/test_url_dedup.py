"""One document per URL: which one is kept, and what the other passes see."""

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.dataset.dataset import Dataset
from infra.formats.urls import canonicalize_url
from tests.dedup.corpora import Row, context, documents, edited, prose, row
from tests.select.annotations import annotated, annotation
from tests.select.test_stage import ledger, run

SPELLINGS = (
    "http://x.org/{}",
    "HTTP://X.ORG:80/{}#top",
    "http://x.org/a/../{}",
    "https://x.org/{}",
)


def versions(rng: random.Random, source: str, count: int) -> list[Row]:
    """Different texts of few pages, some without a web URL."""
    out = []
    for number in range(count):
        url = rng.choice(SPELLINGS).format(rng.randint(0, 4))
        text = f"{source} {number} " + "word " * rng.randint(0, 9)
        out.append(row(source, text, rng.choice([url, url, url, None, "book:same"])))
    return out


def chosen(sources: Sequence[Sequence[Row]]) -> dict[str, str]:
    """By definition: the dropped documents and their survivors."""
    groups: dict[str, list[tuple[Any, ...]]] = {}
    for index, rows in enumerate(sources):
        for r in rows:
            address = canonicalize_url(r["url"] or "")
            if address is not None:
                groups.setdefault(address, []).append((index, -len(r["text"]), r["id"]))
    return {loser[2]: min(group)[2] for group in groups.values() for loser in sorted(group)[1:]}


@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 12), max_size=3))
@settings(max_examples=6)
def test_one_document_is_kept_per_url(
    seed: int, cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    ctx = context(tmp_path_factory.mktemp("store"))
    one, other = versions(rng, "one", 12), versions(rng, "other", 9)
    bounds = [0, *sorted(cuts), len(one)]
    sources = [
        documents(ctx, "one", [one[a:b] for a, b in itertools.pairwise(bounds)]),
        documents(ctx, "other", [other]),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.select.task.CANDIDATES_PER_PARTITION", rng.choice([3, 200_000]))
        corpus = run(ctx, sources, dedup_urls=True, max_source_duplicate_fraction=1)
    verdicts = {v["id"]: v for v in ledger(corpus) if v["reason"] == "url_duplicate"}
    expected = chosen([one, other])
    assert {i: json.loads(v["evidence"])["survivor"] for i, v in verdicts.items()} == expected
    for verdict in verdicts.values():
        assert json.loads(verdict["evidence"])["url"] == canonicalize_url(verdict["url"])
    kept = {r["id"] for r in corpus.table(["id"]).to_pylist()}
    assert kept == {r["id"] for r in [*one, *other]} - set(expected)
    facts = corpus.stats["sources"]
    assert sum(facts[name]["url_duplicate"] for name in facts) == len(expected)


def pages(tmp_path: Path, annotations: Sequence[dict[str, Any] | None], **fields: Any) -> Dataset:
    """Two versions of a page, the longer one first, and a near-duplicate of that one elsewhere."""
    ctx = context(tmp_path)
    words = prose(random.Random(4), 200)
    near = edited(random.Random(5), words, 1)[:-1]
    rows = [
        row("site", " ".join([*words, "long"]), "http://x/1"),
        row("site", "another text altogether", "http://x/1"),
        row("site", " ".join(near), "http://x/2"),
    ]
    texts = documents(ctx, "site", [rows])
    return run(ctx, [texts], [annotated(ctx, texts, [annotations])], **fields)


def reasons(corpus: Dataset) -> list[str | None]:
    return [verdict["reason"] for verdict in ledger(corpus)]


def test_it_is_off_by_default(tmp_path: Path) -> None:
    assert reasons(pages(tmp_path, [annotation()] * 3)) == [None, None, "near_duplicate"]


def test_a_dropped_version_does_not_drop_its_duplicates(tmp_path: Path) -> None:
    dropped = [None, "url_duplicate", "near_duplicate"]
    assert reasons(pages(tmp_path, [annotation()] * 3, dedup_urls=True)) == dropped
    short = pages(tmp_path, [annotation()] * 3, dedup_urls=True, prefer=["shortest"])
    assert reasons(short) == ["url_duplicate", None, None]


def test_a_version_that_fails_a_rule_does_not_survive(tmp_path: Path) -> None:
    annotations = [annotation(language="de"), annotation(), annotation()]
    corpus = pages(tmp_path, annotations, dedup_urls=True, languages={"en": 0.5})
    assert reasons(corpus) == ["language", None, None]
