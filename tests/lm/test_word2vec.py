"""word2vec: the kernel is the textbook's, the meaning of a text is found, bytes depend on nothing else."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models

from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context
from lm.models.embedding.corpus import NoWordsError, divide_texts
from lm.models.embedding.files import WordVectors
from lm.models.embedding.subwords import hash_ngrams
from lm.models.embedding.token_text import token_texts, write_field
from lm.models.registry import load_counting, parse_entry
from lm.models.word2vec import train
from lm.models.word2vec.config import Word2vecEntry
from lm.models.word2vec.input_rows import InputRows
from lm.models.word2vec.model import Schedule, Weights, train_words
from lm.models.word2vec.output_layer import alias_table, huffman_layer, sampling_layer
from tests.lm import corpora, planted, word2vec_reference


def entry(**sections: Any) -> Word2vecEntry:
    parsed = parse_entry({"name": "vectors", "family": "word2vec", **sections})
    assert isinstance(parsed, Word2vecEntry)
    return parsed


def build(ctx: Context, tokens: Dataset, **sections: Any) -> Dataset:
    config = entry(**sections)
    return train.build(ctx, train.spec(ctx, config, tokens), config, tokens)


def load(model: Dataset) -> WordVectors:
    path = model.storage.local_path("model.safetensors")
    assert path is not None
    return WordVectors.load(path.parent)


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("layer", ["sampling", "huffman"])
@pytest.mark.parametrize("ngrams", [0, 3])
def test_the_kernel_is_the_algorithm_of_the_papers(cbow: bool, layer: str, ngrams: int) -> None:
    rng = np.random.default_rng(3)
    vocabulary, buckets, size = 20, 7, 16
    counts = sorted(rng.integers(1, 50, vocabulary).tolist(), reverse=True)
    words = rng.integers(0, vocabulary, 150).astype(np.int32)
    words[::37] = -1
    own = [
        [word, *(vocabulary + rng.integers(0, buckets, ngrams)).tolist()]
        for word in range(vocabulary)
    ]
    rows = InputRows(
        np.cumsum([0, *map(len, own)]), np.array([row for item in own for row in item], np.int32)
    )
    output = huffman_layer(counts) if layer == "huffman" else sampling_layer(counts, 4, 0.75)
    keep = np.full(vocabulary, 3 << 30, np.uint64)
    schedule = Schedule(cbow, 3, keep, 0.5, 0.1, 400)
    start = [
        rng.normal(0, 0.5, (n, size)).astype(np.float32) for n in (vocabulary + buckets, vocabulary)
    ]
    ours = Weights(*(array.copy() for array in start))
    pairs = train_words(words, 1000, np.uint64(99), 200, ours, rows, output, schedule)
    theirs = start[0].astype(np.float64), start[1].astype(np.float64)
    word2vec_reference.train(words.tolist(), 1000, 99, 200, theirs, rows, output, schedule)
    assert pairs > 90
    assert np.abs(ours.inputs - start[0]).max() > 0.1
    # Weights of about 1, in float32.
    np.testing.assert_allclose(ours.inputs, theirs[0], rtol=0, atol=2e-5)
    np.testing.assert_allclose(ours.outputs, theirs[1], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("model", "optim"),
    [
        ({}, {}),
        ({"algorithm": "cbow"}, {}),
        ({}, {"loss": "hierarchical_softmax"}),
        ({"algorithm": "cbow", "max_n": 5, "buckets": 5000}, {"loss": "hierarchical_softmax"}),
        ({}, {"replicas": 4}),
    ],
)
def test_planted_analogies_and_similarities_are_learnt(
    tmp_path: Path,
    planted_tokens: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    model: dict[str, Any],
    optim: dict[str, Any],
) -> None:
    monkeypatch.setattr(train, "ROUND_WORDS", 20_000)
    section = {"vector_size": 40, **model}
    built = build(corpora.context(tmp_path), planted_tokens, model=section, optim=optim)
    accuracy, correlation = planted.evaluate(load(built))
    assert accuracy > 0.9
    assert correlation > 0.6
    assert built.stats["vocab_size"] == planted.VOCABULARY
    assert built.stats["pairs"] > 5 * 8000


def test_untrained_vectors_know_no_analogy(tmp_path: Path, planted_tokens: Dataset) -> None:
    settings = {"lr": 1e-9, "min_lr": 0}
    built = build(
        corpora.context(tmp_path), planted_tokens, model={"vector_size": 40}, optim=settings
    )
    accuracy, correlation = planted.evaluate(load(built))
    assert accuracy < 0.1
    assert abs(correlation) < 0.2


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=60))
@settings(deadline=None)
def test_random_words_are_drawn_in_proportion_to_their_weights(counts: list[int]) -> None:
    weights = np.array(counts, np.float64)
    threshold, alias = alias_table(weights)
    own = (threshold.astype(np.float64) + 1) / 2**32
    chances = own.copy()
    np.add.at(chances, alias, 1 - own)
    np.testing.assert_allclose(chances / len(counts), weights / weights.sum(), atol=1e-6)


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=60))
@settings(deadline=None)
def test_paths_of_the_huffman_tree_are_a_shortest_code(counts: list[int]) -> None:
    layer = huffman_layer(counts)
    lengths = np.diff(layer.starts)
    assert sum(0.5**length for length in lengths.tolist()) == 1  # every leaf is a word
    entropy = -sum(count * math.log2(count / sum(counts)) for count in counts)
    assert entropy - 1e-6 <= float(lengths @ counts) < entropy + sum(counts)
    paths = {
        (*layer.nodes[a:b].tolist(), *layer.turns[a:b].tolist())
        for a, b in zip(layer.starts[:-1], layer.starts[1:], strict=True)
    }
    assert len(paths) == len(counts)
    assert set(layer.nodes.tolist()) == set(range(len(counts) - 1))


def test_ngrams_are_those_of_fasttext() -> None:
    # From gensim's ft_ngram_hashes, which are equal to fastText's.
    assert hash_ngrams("öl", 3, 4, 2_000_000) == [1694178, 1966420, 89274]
    assert len(hash_ngrams("a", 1, 2, 10)) == 3  # a, <a and a>, but neither < nor >


def test_an_unseen_word_has_the_vector_of_its_ngrams(
    tmp_path: Path, planted_tokens: Dataset
) -> None:
    section = {"vector_size": 20, "max_n": 5, "buckets": 1000}
    built = load(
        build(corpora.context(tmp_path), planted_tokens, model=section, optim={"epochs": 2})
    )
    unseen, seen = built.vector("topic03n9"), built.vector("Topic03n1")
    assert built.find("topic03n9") is None
    assert unseen is not None
    assert seen is not None
    cosine = unseen @ seen / np.linalg.norm(unseen) / np.linalg.norm(seen)
    assert cosine > 0.5


def test_words_are_runs_of_letters_digits_and_marks() -> None:
    text = "Don't stop: l’eau, 3rd नमस्ते e\u0301te_x!  'quoted' 世界"
    expected = ["don't", "stop", "l’eau", "3rd", "नमस्ते", "e\u0301te_x", "quoted", "世界"]
    assert divide_texts([text, ""], lowercase=True) == [expected, []]
    assert divide_texts(["Ab"], lowercase=False) == [["Ab"]]


def test_tokens_have_vectors_too(tmp_path: Path, planted_tokens: Dataset) -> None:
    section = {"unit": "token", "vector_size": 8, "min_count": 1}
    built = load(
        build(corpora.context(tmp_path), planted_tokens, model=section, optim={"epochs": 1})
    )
    texts = {corpora.tokenizer().decode([number]) for number in range(1, 300)}
    assert {"n", "t", " "} <= built.index.keys() <= texts
    assert (
        sum(built.vocabulary.counts)
        == planted_tokens.stats["tokens"]["train"] - planted_tokens.stats["documents"]["train"]
    )


def test_words_of_all_languages_are_found_among_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["水 und Größe\nмир und 水 Größe"] * 40
    trained = corpora.train_tokenizer(texts)
    monkeypatch.setattr(corpora, "tokenizer", lambda: trained)
    tokens = corpora.token_shards(tmp_path, documents=texts)
    section = {"unit": "token", "vector_size": 8, "min_count": 1}
    built = load(build(corpora.context(tmp_path), tokens, model=section, optim={"epochs": 1}))
    words = built.vocabulary.words
    found = [built.find(word) for word in ("水", "Größe", "мир", "und", "\n", "Wasser")]
    assert [None if item is None else words[item] for item in found] == [
        " 水", " Größe", "мир", " und", "\n", None
    ]  # fmt: skip
    with (tmp_path / "vectors.txt").open("wb") as file:
        built.write_text(file)
    _, *lines = (tmp_path / "vectors.txt").read_text(encoding="utf-8").splitlines()
    written = {line.split()[0] for line in lines if len(line.split()) == 9}
    assert {"▁水", "▁Größe", "мир", "<0x0A>"} <= written
    assert len(written) == len(words)


def test_tokens_that_end_within_a_character_are_written_as_bytes() -> None:
    trained = Tokenizer(models.BPE({"a": 0, "Ġb": 1, "æ": 2, "æ°´": 3, "Ċ": 4}, []))
    trained.decoder = decoders.ByteLevel()
    trained.add_special_tokens(["<世>"])
    assert token_texts(trained.to_str().encode()) == ["a", " b", "<0xE6>", "水", "\n", "<世>"]
    trained.decoder = decoders.Metaspace()
    plain = Tokenizer(models.WordLevel({"▁größe": 0, "Ġ": 1}, unk_token="Ġ"))
    plain.decoder = decoders.Metaspace()
    assert token_texts(plain.to_str().encode()) == [" größe", "Ġ"]


@given(st.lists(st.text(st.sampled_from("a▁ \n\u3000水"), min_size=1), unique=True))
def test_words_are_written_without_white_space_and_stay_different(words: list[str]) -> None:
    written = [write_field(word) for word in words]
    assert all(len(word.split()) == 1 for word in written)
    assert len(set(written)) == len(words)


def test_a_text_without_frequent_words_is_refused(tmp_path: Path, planted_tokens: Dataset) -> None:
    with pytest.raises(NoWordsError):
        build(corpora.context(tmp_path), planted_tokens, model={"min_count": 10**6})
    with pytest.raises(NoWordsError):  # every word is left out
        build(corpora.context(tmp_path), planted_tokens, optim={"subsample": 1e-30})


@pytest.mark.parametrize(
    "model", [{"max_n": 2}, {"max_n": 5, "unit": "token"}, {"algorithm": "glove"}, {"dim": 3}]
)
def test_settings_that_make_no_model_are_refused(model: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        entry(model=model)


@pytest.mark.parametrize("family", ["word2vec", "glove"])
def test_an_entry_with_seeds_makes_a_model_of_each(tmp_path: Path, family: str) -> None:
    parsed = parse_entry({"name": "v", "family": family, "seeds": [7, 1337]})
    one, other = parsed.expand()
    assert [one.name, other.name] == ["v-seed7", "v-seed1337"]
    tokens, ctx = corpora.token_shards(tmp_path), corpora.context(tmp_path)  # its seed is 1337
    plans = [load_counting(family, "train").spec(ctx, item, tokens) for item in (one, other)]
    plain = parse_entry({"name": "v-seed1337", "family": family})
    default = load_counting(family, "train").spec(ctx, plain, tokens)
    assert plans[0].fingerprint != plans[1].fingerprint == default.fingerprint
    with pytest.raises(ValidationError):
        parse_entry({"name": "counts", "family": "ngram", "seeds": [7, 8]})


def test_a_rate_that_would_grow_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_lr"):
        entry(optim={"lr": 1e-5})


def test_the_text_file_holds_the_exact_vectors(tmp_path: Path, planted_tokens: Dataset) -> None:
    built = load(
        build(
            corpora.context(tmp_path), planted_tokens, model={"vector_size": 7}, optim={"epochs": 1}
        )
    )
    path = tmp_path / "vectors.txt"
    with path.open("wb") as file:
        built.write_text(file)
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    assert head == f"{planted.VOCABULARY} 7"
    values = np.array([line.split(" ")[1:] for line in lines], np.float32)
    assert values.tobytes() == built.vectors.tobytes()
    assert [line.split(" ")[0] for line in lines] == built.vocabulary.words
