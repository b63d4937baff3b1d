"""The bytes of word vectors depend on the recipe and the text: not on workers, crashes or pieces of work."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.phases import PhaseRunner
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context
from infra.store.storage import Storage
from lm.models.embedding import corpus
from lm.models.glove import train as glove
from lm.models.glove.config import GloveConfig
from lm.models.registry import load_counting, parse_entry
from lm.models.word2vec import train as word2vec
from tests.lm import corpora

WORD2VEC = {
    "family": "word2vec",
    "model": {"vector_size": 20, "max_n": 4, "buckets": 100},
    "optim": {"replicas": 3, "epochs": 2},
}
GLOVE = {"family": "glove", "model": {"vector_size": 20}, "optim": {"epochs": 2}}
# The task of a round, and constants that decide the rounds of a small text.
FAMILIES = [
    pytest.param(WORD2VEC, word2vec, "train_piece", {"ROUND_WORDS": 30_000}, id="word2vec"),
    pytest.param(GLOVE, glove, "train_block", {"GROUP_CELLS": 8_000}, id="glove"),
]


@pytest.fixture(scope="module")
def workers() -> Iterator[DaskCluster]:
    with DaskCluster(ClusterConfig.model_validate({"workers": 2})) as cluster:
        yield cluster


def build(ctx: Context, tokens: Dataset, entry: dict[str, Any]) -> Dataset:
    config = parse_entry({"name": "vectors", **entry})
    train = load_counting(config.family, "train")
    built: Dataset = train.build(ctx, train.spec(ctx, config, tokens), config, tokens)
    return built


@pytest.mark.parametrize(("entry", "module", "task", "sizes"), FAMILIES)
def test_bytes_do_not_depend_on_workers_nor_on_a_crash(
    tmp_path: Path,
    planted_tokens: Dataset,
    workers: DaskCluster,
    monkeypatch: pytest.MonkeyPatch,
    entry: dict[str, Any],
    module: Any,
    task: str,
    sizes: dict[str, int],
) -> None:
    for name, value in sizes.items():
        monkeypatch.setattr(module, name, value)
    tokens = planted_tokens
    whole = build(corpora.context(tmp_path / "whole"), tokens, entry)
    calls, function = [], getattr(module, task)

    def fail_once(*arguments: Any) -> Any:
        calls.append(arguments[1:])
        if len(calls) == 6:
            raise RuntimeError
        return function(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, task, fail_once)
        with pytest.raises(RuntimeError):
            build(corpora.context(tmp_path / "killed"), tokens, entry)
        resumed = build(corpora.context(tmp_path / "killed"), tokens, entry)
    assert resumed.content == whole.content
    assert len(set(calls)) == len(calls) - 1 > 5  # only the task that failed ran again
    assert resumed.stats["cpu_seconds"] > 0
    assert resumed.stats["tokens_per_second"] > 0
    several = Context(Storage(str(tmp_path / "workers")), 1337, workers, NullReporter())
    assert build(several, tokens, entry).content == whole.content
    other = Context(Storage(str(tmp_path / "seed")), 1, several.cluster, NullReporter())
    assert build(other, tokens, entry).content != whole.content


def test_the_pieces_of_counting_do_not_change_the_model(
    tmp_path: Path, planted_tokens: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(corpora.context(tmp_path / "whole"), planted_tokens, GLOVE)
    monkeypatch.setattr(corpus, "RANGE_TOKENS", 20_000)
    monkeypatch.setattr(glove, "PIECE_PAIRS", 70_000)
    monkeypatch.setattr(glove, "RANGE_PAIRS", 50_000)
    divided = build(corpora.context(tmp_path / "divided"), planted_tokens, GLOVE)
    assert divided.content == whole.content


def test_what_replicas_have_changed_is_read_once(
    tmp_path: Path, planted_tokens: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word2vec, "ROUND_WORDS", 30_000)
    monkeypatch.setattr(word2vec, "BLOCK_BYTES", 10_000)
    sizes: dict[str, list[int]] = {"changes": [], "weights": []}
    read = Storage.read

    def count(self: Storage, name: str, *span: Any) -> bytes:
        data = read(self, name, *span)
        if (folder := name.split("/", maxsplit=1)[0]) in sizes:
            sizes[folder].append(len(data))
        return data

    monkeypatch.setattr(Storage, "read", count)
    built = build(corpora.context(tmp_path), planted_tokens, WORD2VEC)
    assert max(sizes["changes"]) < 10_000
    # Seven pieces in each of two epochs: two rounds of three replicas, and one of a single one.
    replicas, shared_rounds, alone = 12, 4, 2
    size = 4 * 32 * (2 * built.stats["vocab_size"] + 100)  # padded to 32 values, with 100 buckets
    assert sum(sizes["changes"]) == replicas * size
    # A replica reads the weights, and once more to see what it has changed; then they are added to, and kept.
    assert sum(sizes["weights"]) <= (2 * replicas + shared_rounds + alone + 1) * size


def test_rare_words_never_come_together_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "RANGE_TOKENS", 300)
    texts = [
        f"often and often once{number} often and often twice{number % 20}" for number in range(40)
    ]
    tokens = corpora.token_shards(tmp_path / "store", documents=texts)
    work = Storage(str(tmp_path / "work"))
    section = GloveConfig.model_validate({"min_count": 3})
    ctx = corpora.context(tmp_path)
    words = corpus.Corpus(work, tokens, section, "v")
    vocabulary = words.build_vocabulary(PhaseRunner(ctx.cluster, ctx.reporter, work, "train"))
    kept = [text for number, text in enumerate(texts) if number % 7 != 3]  # the others are held out
    counts = Counter(word for text in kept for word in text.split())
    expected = [item for item in counts.items() if item[1] >= 3]
    assert expected != []
    expected.sort(key=lambda item: (-item[1], item[0]))
    assert list(zip(vocabulary.words, vocabulary.counts, strict=True)) == expected
    files = work.list_files("frequent")
    assert len(files) == words.counts.n_partitions > 3
    assert not any(b"once" in work.read(name) for name in files)
