from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.dataset import Dataset, PartRef, open_dataset
from infra.stage import Outcome
from infra.storage import StorageError
from infra.tokens import TokenShards
from tasks.tokenize import task, training
from tasks.tokenize.config import TokenizeConfig
from tasks.tokenize.encode import BadTokenizer, Encoder
from tests.tokenize import megatron
from tests.tokenize.corpora import EOS, context, corpus, table, variations

CONFIG = TokenizeConfig(vocab_size=400, validation=0.2)


def run(root: Path | str, parts: list[list[str]], config: TokenizeConfig = CONFIG) -> Dataset:
    ctx = context(root)
    texts = corpus(ctx, [table(part) for part in parts])
    spec = task.tokenize.spec(ctx, config=config, corpus=texts)
    return task.tokenize.build(ctx, spec, config=config, corpus=texts)


def contents(dataset: Dataset) -> dict[str, bytes]:
    files = [file for file in dataset.manifest.every_file if not file.name.startswith("part-")]
    assert [file.name for file in files] == ["tokenizer.json"]
    return {file.name: dataset.storage.read(file.name) for file in dataset.manifest.every_file}


def test_every_document_is_found_again_in_the_shards(tmp_path: Path) -> None:
    parts = [variations(30), variations(5, 100), []]
    tokens = run(tmp_path, parts)
    encoder = Encoder(tokens.read("tokenizer.json"), EOS)
    texts = {}
    for part in tokens.parts:
        rows = part.table().to_pylist()
        for split in ("train", "validation"):
            if f"{split}.bin" not in part.record.files:
                assert all(row["split"] != split for row in rows)
                continue
            path = part.storage.local(part.file(f"{split}.bin"))
            assert path is not None
            sequences = megatron.read(path)
            flat = [token for sequence in sequences for token in sequence]
            mine = [row for row in rows if row["split"] == split]
            assert [row["sequence"] for row in mine] == list(range(len(sequences)))
            for row, sequence in zip(mine, sequences, strict=True):
                assert row["tokens"] == len(sequence)
                assert flat[row["offset"] : row["offset"] + row["tokens"]] == sequence
                [plain] = encoder.encode([""])
                assert not isinstance(plain, Exception)
                assert sequence[-1] == plain[-1] == tokens.facts["eos_id"]
                texts[row["id"]] = encoder._tokenizer.decode(sequence[:-1])
                assert row["bytes"] == len(texts[row["id"]].encode())
    expected = [item for part in parts for item in part]
    ids = [identity for part in parts for identity in table(part)["id"].to_pylist()]
    assert texts == dict(zip(ids, expected, strict=True))
    assert tokens.counts.to_json() == {"in": 35, "kept": 35, "dropped": {}, "failed": {}}


def test_the_facts_say_what_the_shards_hold(tmp_path: Path) -> None:
    tokens = run(tmp_path, [variations(40)])
    facts = tokens.facts
    for split in ("train", "validation"):
        shards = TokenShards(tokens, split)
        assert facts["tokens"][split] == len(shards)
        assert facts["documents"][split] == shards.documents > 0
        assert facts["bytes"][split] == sum(shards.table["bytes"].to_pylist())
    assert facts["vocab_size"] == 400
    assert facts["dtype"] == "uint16"
    assert facts["eos_id"] == 0
    assert facts["by_language"]["en"]["documents"] == 40
    assert 1 < facts["bytes_per_token"] < 8
    held = facts["documents"]["validation"]
    assert facts["round_trip"] == {"documents": held, "exact": held, "failing": []}


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    parts = [variations(20), variations(20, 50)]
    one, two = run(tmp_path / "one", parts), run(tmp_path / "two", parts)
    assert contents(one) == contents(two)
    assert one.storage.read("manifest.json") == two.storage.read("manifest.json")


def test_the_tokenizer_sees_training_text_only(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    tokens = run(tmp_path, [variations(40)])
    [folder] = ctx.storage.folders("words")
    seen = set(open_dataset(ctx.storage.at("words", folder)).table()["id"].to_pylist())
    assert seen == set(TokenShards(tokens, "train").ids)


def test_a_new_document_outside_the_sample_leaves_other_parts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"sample_bytes": 1_000})
    before = run(tmp_path, [variations(60)], config)
    done: list[str] = []
    real = task.tokenize_part

    def counting(part: PartRef, home: Dataset, options: dict[str, Any]) -> Iterator[Outcome]:
        done.append(part.name)
        return real(part, home, options)

    monkeypatch.setattr(task, "tokenize_part", counting)
    monkeypatch.setattr(training, "train_tokenizer", None)  # must not be needed
    monkeypatch.setattr(training, "count_words", None)
    after = run(tmp_path, [variations(60), ["One more page, and a dull one."]], config)
    assert done == ["00001"]
    assert after.parts[0].content == before.parts[0].content
    assert after.counts.kept == 61


@pytest.mark.parametrize(
    ("parts", "train", "held"),
    [
        ([], 0, 0),
        ([[]], 0, 0),
        ([["only"]], 1, 0),
        ([["one", "two", "three"]], 2, 1),
        ([["same"], ["same"]], 2, 0),
        ([["", "x"]], 1, 1),
    ],
    ids=["no part", "no document", "one", "three", "equal", "empty text"],
)
def test_tiny_corpora(tmp_path: Path, parts: list[list[str]], train: int, held: int) -> None:
    config = TokenizeConfig(validation=0.05)
    facts = run(tmp_path, parts, config).facts
    assert facts["documents"] == {"train": train, "validation": held}
    assert facts["vocab_size"] >= 257


def test_an_existing_tokenizer_is_used_as_it_is(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [variations(30)])
    path = tmp_path / "own" / "tokenizer.json"
    path.parent.mkdir()
    path.write_bytes(first.read("tokenizer.json"))
    config = TokenizeConfig(tokenizer=str(path), validation=0.2)
    second = run(tmp_path / "b", [variations(30)], config)
    assert second.read("tokenizer.json") == first.read("tokenizer.json")
    assert second.content == first.content
    moved = path.rename(tmp_path / "moved.json")
    ctx = context(tmp_path / "b")
    texts = corpus(ctx, [table(variations(30))])
    config = TokenizeConfig(tokenizer=str(moved), validation=0.2, vocab_size=999)
    assert task.tokenize.spec(ctx, config=config, corpus=texts).fingerprint == second.fingerprint


def test_a_tokenizer_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"tokenize\.tokenizer: no file '/nowhere/t\.json'"):
        run(tmp_path, [["text"]], TokenizeConfig(tokenizer="/nowhere/t.json"))
    (tmp_path / "bad.json").write_bytes(b"{}")
    with pytest.raises(BadTokenizer, match=r"tokenize\.tokenizer: .*bad\.json: not a tokenizer"):
        run(tmp_path, [["text"]], TokenizeConfig(tokenizer=str(tmp_path / "bad.json")))
