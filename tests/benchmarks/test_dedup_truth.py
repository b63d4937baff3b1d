import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.dedup_edits import EDITS, FIXED, Stock
from benchmarks.dedup_jaccard import (
    all_pairs,
    bin_name,
    bin_names,
    find_supported,
    jaccard,
    shingle_set,
)
from benchmarks.dedup_truth import SyntheticCorpus, generate, make_pair, sample_paragraphs, write
from infra.minhash.shingles import normalize, shingles

LEXICON = [f"{a}{b}{c}" for a in "bcdfmnrst" for b in "aeiou" for c in ("", "l", "rm", "n")]
STOCK = Stock([word.upper() for word in random.Random(0).choices(LEXICON, k=20_000)])


def prose(seed: int, words: int) -> str:
    """Paragraphs of sentences of made-up words."""
    rng = random.Random(seed)
    paragraphs = []
    while words > 0:
        sentences = []
        for _ in range(rng.randint(2, 6)):
            length = rng.randint(6, 20)
            words -= length
            sentences.append(" ".join(rng.choices(LEXICON, k=length)).capitalize() + ".")
        paragraphs.append(" ".join(sentences))
    return "\n\n".join(paragraphs)


def exact(a: str, b: str) -> float:
    first, second = set(shingles(a, 5)), set(shingles(b, 5))
    return len(first & second) / len(first | second)


@pytest.fixture(scope="module")
def real() -> pa.Table:
    texts = [prose(seed, 1500) for seed in range(140)]
    kinds = ["book" if seed % 20 == 0 else "manual" for seed in range(140)]
    urls = [f"debian:manual/{seed}.html" for seed in range(140)]
    return pa.table({"url": urls, "kind": kinds, "text": pa.array(texts, pa.large_string())})


def test_similarities_equal_the_definition() -> None:
    texts = [prose(1, 300), prose(2, 300), "too short", ""]
    texts.append(texts[0] + " " + texts[1][:400])
    sets = [shingle_set(text) for text in texts]
    pairs = all_pairs(sets, 0.01)
    for i in range(len(texts)):
        for j in range(i + 1, len(texts)):
            value = exact(texts[i], texts[j]) if len(sets[i]) and len(sets[j]) else 0.0
            assert jaccard(sets[i], sets[j]) == pytest.approx(value)
            assert pairs.get((i, j), 0.0) == pytest.approx(value if value >= 0.01 else 0.0)


# Moving whole paragraphs breaks few shingles: a similarity of 0.75 cannot be reached.
@pytest.mark.parametrize(
    ("name", "target"),
    [
        (name, target)
        for name in sorted(set(EDITS) - FIXED)
        for target in (0.75, 0.85, 0.92)
        if (name, target) != ("paragraphs_moved", 0.75)
    ],
)
def test_edits_come_close_to_the_target_similarity(name: str, target: float) -> None:
    pair = make_pair(prose(3, 1200), EDITS[name], target, 7, STOCK)
    assert exact(*pair) == pytest.approx(target, abs=0.04)
    assert make_pair(prose(3, 1200), EDITS[name], target, 7, STOCK) == pair
    other = make_pair(prose(3, 1200), EDITS[name], target, 8, STOCK)
    assert (other == pair) == (name == "excerpt")  # which is not random


def test_punctuation_keeps_words_and_rewrapping_keeps_normalized_text() -> None:
    text = prose(4, 400) + '\n\nIt\'s "quoted" -- is it? (Yes; 3/4!)'
    _, marked = make_pair(text, EDITS["punctuation"], 0.9, 1, STOCK)
    assert exact(text, marked) == 1
    assert normalize(text) != normalize(marked)
    _, wrapped = make_pair(text, EDITS["rewrapped"], 0.9, 1, STOCK)
    assert wrapped != text
    assert normalize(wrapped) == normalize(text)


def test_samples_are_whole_paragraphs_of_about_the_requested_length() -> None:
    text = prose(5, 2000)
    sample = sample_paragraphs(text, 500, random.Random(1))
    assert sample is not None
    assert sample in text
    assert 250 <= len(sample.split()) <= 650
    assert sample_paragraphs("only a few words", 500, random.Random(1)) is None


def test_the_same_seed_gives_the_same_corpus(real: pa.Table) -> None:
    first, second = (generate(real, seed=3, scale=0.02) for _ in range(2))
    assert first == second
    assert generate(real, seed=4, scale=0.02) != first


def test_a_corpus_has_the_duplicates_and_traps_that_its_tables_list(
    real: pa.Table, tmp_path: Path
) -> None:
    corpus = generate(real, scale=0.02)
    write(corpus, tmp_path)
    documents = pa.concat_tables(
        pq.read_table(file) for file in sorted((tmp_path / "documents").glob("*.parquet"))
    )
    texts = dict(zip(documents["id"].to_pylist(), documents["text"].to_pylist(), strict=True))
    assert sorted(texts.values()) == sorted(document.text for document in corpus.documents)
    roles = pq.read_table(tmp_path / "roles.parquet").to_pylist()
    assert {row["role"] for row in roles} == {"original", "copy", "template", "book", "page"}
    books = {row["id"] for row in roles if row["role"] == "book"}
    pairs = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert {row["kind"] for row in pairs} > set(EDITS) - {"excerpt"}
    for row in pairs:
        assert row["jaccard"] == pytest.approx(exact(texts[row["a"]], texts[row["b"]]))
        assert not {row["a"], row["b"]} & books or row["jaccard"] < 0.8


def test_added_documents_get_consecutive_numbers() -> None:
    corpus = SyntheticCorpus()
    numbers = [corpus.add(text, "original", "x") for text in "ab"]
    assert numbers == [0, 1]
    assert [document.text for document in corpus.documents] == ["a", "b"]


def test_bin_names() -> None:
    assert bin_name(0.8) == "0.8-0.85"
    assert bin_name(0.999) == "0.95-1"
    assert bin_name(1.0) == "1"
    assert bin_name(0.59) is None
    assert {bin_name(k / 100) for k in range(60, 101)} == set(bin_names())


def test_a_removal_is_supported_by_a_kept_duplicate() -> None:
    pairs = {("a", "b"): 0.9, ("b", "c"): 0.85, ("c", "d"): 0.7}
    assert find_supported({"b"}, pairs, 0.8) == {"b"}
    assert find_supported({"a", "b"}, pairs, 0.8) == {"b"}
    assert find_supported({"d"}, pairs, 0.8) == set()
