"""The stage `index` on real token shards."""

from pathlib import Path

import numpy as np
import pytest

from infra.dataset.dataset import Dataset
from infra.formats.megatron import TRAIN, TokenShards
from infra.suffix_array.source_index import SourceIndex
from tasks.index import task
from tasks.index.config import IndexConfig
from tests.lm.corpora import context, token_shards


def index_of(store: Path, tokens: Dataset, group_tokens: int) -> Dataset:
    ctx, config = context(store), IndexConfig(group_tokens=group_tokens)
    return task.build(
        ctx, task.spec(ctx, config=config, tokens=tokens), config=config, tokens=tokens
    )


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("group_tokens", [1, 3_000, 10**9])
def test_every_run_of_training_tokens_is_found_where_it_stands(
    tmp_path: Path, tokens: Dataset, group_tokens: int
) -> None:
    shards = TokenShards(tokens, TRAIN)
    data = index_of(tmp_path, tokens, group_tokens)
    index = SourceIndex(data)
    assert len(index) == len(shards) == data.stats["indexed_tokens"]
    assert data.counts.kept == data.counts.n_in == shards.num_documents
    draw = np.random.default_rng(5)
    for number in draw.integers(0, shards.num_documents, 40).tolist():
        first, end = shards.document_range(number)
        start = int(draw.integers(first, end - 1))
        ids = shards.read(start, min(12, end - 1 - start)).astype(np.int64)
        count, places = index.find_occurrences(ids, limit=10**6)
        assert count == len(places)
        at = [place.first_token for place in places]
        assert at == sorted(at)
        place = places[at.index(start)]
        assert place.offset == start - first
        assert place.document["id"] == shards.ids[number]
        assert place.document["license"] == "CC0-1.0"
        for other in at:
            assert shards.read(other, len(ids)).tolist() == ids.tolist()


def test_spans_are_as_long_as_they_can_be(tmp_path: Path, tokens: Dataset) -> None:
    shards = TokenShards(tokens, TRAIN)
    index = SourceIndex(index_of(tmp_path, tokens, 3_000))
    one, two = (shards.read_document(number)[:9].astype(np.int64) for number in (3, 8))
    missing = np.array([10**4], np.int64)
    query = np.concatenate([one, missing, two])
    spans = list(index.find_spans(query, min_tokens=9))
    assert [(span.start, span.end) for span in spans] == [(0, 9), (10, 19)]
    assert list(index.find_spans(missing, min_tokens=1)) == []
    assert list(index.find_spans(query[:0], min_tokens=1)) == []


def test_an_appended_part_changes_only_the_last_group(tokens: Dataset) -> None:
    parts = tokens.parts * 4
    size = len(TokenShards(tokens, TRAIN))  # of two parts
    for length in range(1, len(parts)):
        before = list(task.group_parts(parts[:length], size, 2))
        after = list(task.group_parts(parts[: length + 1], size, 2))
        assert after[: len(before) - 1] == before[:-1]
        assert [part for group in after for part in group] == parts[: length + 1]
        assert len(after) == length // 2 + 1


def test_a_group_that_is_unchanged_is_not_sorted_again(
    tmp_path: Path, tokens: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = index_of(tmp_path, tokens, 3_000)
    monkeypatch.setattr(task, "build_suffix_array", None)  # a call would fail
    ctx, config = context(tmp_path), IndexConfig(group_tokens=3_000)
    spec = task.spec(ctx, config=config, tokens=tokens)
    (first.storage.local_path("manifest.json") or tmp_path).unlink()
    again = task.build(ctx, spec, config=config, tokens=tokens)
    assert again.content == first.content
