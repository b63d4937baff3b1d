"""Canaries: the same for a seed, planted as often as asked, in training documents alone."""

from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from infra.dataset.dataset import Dataset
from tasks.tokenize import task
from tasks.tokenize.canaries import choose_documents, make_canaries, plant
from tasks.tokenize.config import CanariesConfig, TokenizeConfig
from tasks.tokenize.encode import Encoder
from tests.tokenize.corpora import EOS, context, corpus, table, variations

CANARIES = CanariesConfig(repetitions=(1, 5), per_group=2)


def test_canaries_depend_on_the_seed_alone() -> None:
    made = make_canaries(CANARIES, 1)
    assert made == make_canaries(CANARIES, 1)
    assert [canary.repetitions for canary in made] == [0, 0, 1, 1, 5, 5]
    assert len({canary.prefix for canary in made}) == len({canary.secret for canary in made}) == 6
    wider = make_canaries(CanariesConfig(repetitions=(1, 2, 5), per_group=2), 1)
    assert set(made) < set(wider)
    assert not set(made) & set(make_canaries(CANARIES, 2))


@given(st.sets(st.text(min_size=1), min_size=1, max_size=30), st.integers(0, 5))
def test_canaries_are_planted_as_often_as_asked(documents: set[str], seed: int) -> None:
    canaries = make_canaries(CANARIES, seed)
    chosen = choose_documents(canaries, sorted(documents), seed)
    assert chosen.keys() <= documents
    planted = [text for texts in chosen.values() for text in texts]
    for canary in canaries:
        assert planted.count(canary.text) == canary.repetitions
    # One more document takes canaries from one other document at most.
    more = choose_documents(canaries, [*documents, "one more"], seed)
    changed = {name for name in documents if more.get(name) != chosen.get(name)}
    assert len(changed) <= 1


def test_sentences_are_appended_as_paragraphs() -> None:
    documents = pa.table({"id": ["a", "b", "c"], "text": ["One.", None, "Three."]})
    texts = plant(documents, {"a": ["X.", "Y."], "b": ["Z."]})["text"].to_pylist()
    assert texts == ["One.\n\nX.\n\nY.", "Z.", "Three."]


def run(root: Path, parts: list[list[str]], canaries: CanariesConfig | None) -> Dataset:
    ctx = context(root)
    texts = corpus(ctx, [table(part) for part in parts])
    config = TokenizeConfig(vocab_size=400, validation_fraction=0.2, canaries=canaries)
    spec = task.spec(ctx, config=config, corpus=texts)
    return task.build(ctx, spec, config=config, corpus=texts)


def decoded(tokens: Dataset, split: str) -> dict[str, str]:
    encoder = Encoder(tokens.read("tokenizer.json"), EOS)
    texts = {}
    for part in tokens.parts:
        if f"{split}.bin" not in part.record.files:
            continue
        with part.open(f"{split}.bin") as file:
            flat = memoryview(file.read()).cast("H")
        for row in part.table().to_pylist():
            if row["split"] == split:
                ids = list(flat[row["offset"] : row["offset"] + row["tokens"] - 1])
                texts[row["id"]] = encoder._tokenizer.decode(ids)
    return texts


def test_the_shards_hold_the_canaries_in_training_documents_alone(tmp_path: Path) -> None:
    parts = [variations(30), variations(10, 100)]
    tokens = run(tmp_path, parts, CANARIES)
    plain = run(tmp_path, parts, None)
    assert "canaries" not in plain.stats
    assert "canaries" not in plain.manifest.config
    assert tokens.read("tokenizer.json") == plain.read("tokenizer.json")
    assert decoded(tokens, "validation") == decoded(plain, "validation")
    before, after = decoded(plain, "train"), decoded(tokens, "train")
    assert before.keys() == after.keys()
    assert all(after[name].startswith(text) for name, text in before.items())
    joined = "\n".join(after.values())
    assert [item["id"] for item in tokens.stats["canaries"]] == [
        f"canary-{number}-{index}" for number in (0, 1, 5) for index in (0, 1)
    ]
    for item in tokens.stats["canaries"]:
        assert joined.count(f"{item['prefix']} {item['secret']}") == item["repetitions"]
