from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models

from infra.dataset.dataset import Dataset, PartRef, open_dataset
from infra.dataset.stage import PartResult
from infra.formats.byte_level import ALPHABET
from infra.formats.megatron import TokenShards
from tasks.tokenize import task, train_tokenizer
from tasks.tokenize.config import TokenizeConfig
from tasks.tokenize.encode import Encoder, InvalidTokenizerError
from tasks.tokenize.pretokenizer import PretokenizerRule, empty_bpe
from tests.tokenize import megatron
from tests.tokenize.corpora import EOS, context, corpus, table, variations

CONFIG = TokenizeConfig(vocab_size=400, validation_fraction=0.2)


def run(root: Path | str, parts: list[list[str]], config: TokenizeConfig = CONFIG) -> Dataset:
    ctx = context(root)
    texts = corpus(ctx, [table(part) for part in parts])
    spec = task.spec(ctx, config=config, corpus=texts)
    return task.build(ctx, spec, config=config, corpus=texts)


def contents(dataset: Dataset) -> dict[str, bytes]:
    files = [file for file in dataset.manifest.all_files if not file.name.startswith("part-")]
    assert [file.name for file in files] == ["tokenizer.json"]
    return {file.name: dataset.storage.read(file.name) for file in dataset.manifest.all_files}


def test_every_document_can_be_read_from_the_shards(tmp_path: Path) -> None:
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
            path = part.storage.local_path(part.file(f"{split}.bin"))
            assert path is not None
            sequences = megatron.read(path)
            flat = [token for sequence in sequences for token in sequence]
            split_rows = [row for row in rows if row["split"] == split]
            assert [row["sequence"] for row in split_rows] == list(range(len(sequences)))
            for row, sequence in zip(split_rows, sequences, strict=True):
                assert row["tokens"] == len(sequence)
                assert flat[row["offset"] : row["offset"] + row["tokens"]] == sequence
                [plain] = encoder.encode([""])
                assert not isinstance(plain, Exception)
                assert sequence[-1] == plain[-1] == tokens.stats["eos_id"]
                texts[row["id"]] = encoder._tokenizer.decode(sequence[:-1])
                assert row["bytes"] == len(texts[row["id"]].encode())
    expected = [item for part in parts for item in part]
    ids = [identity for part in parts for identity in table(part)["id"].to_pylist()]
    assert texts == dict(zip(ids, expected, strict=True))
    assert tokens.counts.to_json() == {"in": 35, "kept": 35, "dropped": {}, "failed": {}}


def test_the_stats_match_the_shards(tmp_path: Path) -> None:
    tokens = run(tmp_path, [variations(40)])
    stats = tokens.stats
    for split in ("train", "validation"):
        shards = TokenShards(tokens, split)
        assert stats["tokens"][split] == len(shards)
        assert stats["documents"][split] == shards.num_documents > 0
        assert stats["bytes"][split] == sum(shards.table["bytes"].to_pylist())
    assert stats["vocab_size"] == 400
    assert stats["dtype"] == "uint16"
    assert stats["eos_id"] == 0
    assert stats["by_language"]["en"]["documents"] == 40
    assert 1 < stats["bytes_per_token"] < 8
    held = stats["documents"]["validation"]
    assert stats["round_trip"] == {"documents": held, "exact": held, "failing": []}


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    parts = [variations(20), variations(20, 50)]
    one, two = run(tmp_path / "one", parts), run(tmp_path / "two", parts)
    assert contents(one) == contents(two)
    assert one.storage.read("manifest.json") == two.storage.read("manifest.json")


def test_the_tokenizer_is_trained_on_the_training_split_only(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    tokens = run(tmp_path, [variations(40)])
    [folder] = ctx.storage.list_folders("words")
    sampled = set(open_dataset(ctx.storage.subdir("words", folder)).table()["id"].to_pylist())
    assert sampled == set(TokenShards(tokens, "train").ids)


def test_a_new_document_outside_the_sample_leaves_other_parts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"train_bytes": 1_000})
    before = run(tmp_path, [variations(60)], config)
    tokenized: list[str] = []
    real = task.tokenize_part

    def counting(
        part: PartRef, tokenizer: Dataset, options: dict[str, Any]
    ) -> Iterator[PartResult]:
        tokenized.append(part.name)
        return real(part, tokenizer, options)

    monkeypatch.setattr(task, "tokenize_part", counting)
    monkeypatch.setattr(train_tokenizer, "train_tokenizer", None)  # must not be needed
    monkeypatch.setattr(train_tokenizer, "count_part_words", None)
    after = run(tmp_path, [variations(60), ["One more page, and a dull one."]], config)
    assert tokenized == ["00001"]
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
    config = TokenizeConfig(validation_fraction=0.05)
    stats = run(tmp_path, parts, config).stats
    assert stats["documents"] == {"train": train, "validation": held}
    assert stats["vocab_size"] >= 257


def test_an_existing_tokenizer_is_used_as_it_is(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [variations(30)])
    path = tmp_path / "own" / "tokenizer.json"
    path.parent.mkdir()
    path.write_bytes(first.read("tokenizer.json"))
    config = TokenizeConfig(tokenizer=str(path), validation_fraction=0.2)
    second = run(tmp_path / "b", [variations(30)], config)
    assert second.read("tokenizer.json") == first.read("tokenizer.json")
    assert second.content == first.content
    moved = path.rename(tmp_path / "moved.json")
    ctx = context(tmp_path / "b")
    texts = corpus(ctx, [table(variations(30))])
    config = TokenizeConfig(tokenizer=str(moved), validation_fraction=0.2, vocab_size=999)
    assert task.spec(ctx, config=config, corpus=texts).fingerprint == second.fingerprint


def test_the_error_names_a_tokenizer_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InvalidTokenizerError, match=r"tokenize\.tokenizer: .*/nowhere/t\.json"):
        run(tmp_path, [["text"]], TokenizeConfig(tokenizer="/nowhere/t.json"))
    (tmp_path / "bad.json").write_bytes(b"{}")
    with pytest.raises(InvalidTokenizerError, match=r"tokenize\.tokenizer: .*bad\.json"):
        run(tmp_path, [["text"]], TokenizeConfig(tokenizer=str(tmp_path / "bad.json")))


def test_fertility_and_unused_vocabulary_match_the_shards(tmp_path: Path) -> None:
    tokens = run(tmp_path, [variations(30), variations(20, 100)])
    stats = tokens.stats
    texts = variations(30) + variations(20, 100)
    assert sum(stats["words"].values()) == sum(len(text.split()) for text in texts)
    content_tokens = sum(stats["tokens"].values()) - 50
    assert stats["tokens_per_word"] == pytest.approx(
        content_tokens / sum(stats["words"].values()), 1e-3
    )
    assert stats["by_source"]["site"]["tokens_per_word"] == stats["tokens_per_word"]
    shards = TokenShards(tokens, "train")
    used = set(shards.read(0, len(shards)).tolist())
    unused = [number for number in range(400) if number not in used]
    assert stats["unused"]["count"] == len(unused) > 100  # most bytes do not occur
    assert stats["unused"]["fraction"] == pytest.approx(len(unused) / 400)
    assert [item["id"] for item in stats["unused"]["examples"]] == unused[:20]
    assert tokens.stats["training"]["documents"] == stats["documents"]["train"]


def test_documents_whose_round_trip_fails_are_listed(tmp_path: Path) -> None:
    """A tokenizer that lacks a byte drops it."""
    lossy = empty_bpe(PretokenizerRule())
    alphabet = [char for char in ALPHABET if char != "q"]
    lossy.model = models.BPE({char: i for i, char in enumerate([*alphabet, EOS])}, [])
    lossy.add_special_tokens([EOS])
    lossy.save(str(tmp_path / "lossy.json"))
    config = TokenizeConfig(tokenizer=str(tmp_path / "lossy.json"), validation_fraction=0.5)
    texts = [f"text {n} {'q' if n % 2 else ''}" for n in range(30)]
    tokens = run(tmp_path, [texts[:15], texts[15:]], config)
    held = [
        row for part in tokens.parts for row in part.table().to_pylist() if row["split"] != "train"
    ]
    inexact = [row["id"] for row in held if not row["exact"]]
    has_q = dict(zip(table(texts)["id"].to_pylist(), ("q" in text for text in texts), strict=True))
    assert inexact == [row["id"] for row in held if has_q[row["id"]]] != []
    trip = tokens.stats["round_trip"]
    assert (trip["documents"], trip["exact"]) == (len(held), len(held) - len(inexact))
    assert [item["id"] for item in trip["failing"]] == inexact[:20]


def test_normalized_text_decodes_to_its_normal_form_and_is_counted(tmp_path: Path) -> None:
    texts = [*variations(30), *(f"e\u0301tude {n} \u212b" for n in range(30))]
    config = CONFIG.model_copy(update={"normalization": "nfc"})
    tokens = run(tmp_path, [texts], config)
    held = tokens.stats["documents"]["validation"]
    assert tokens.stats["normalized"] == 30
    assert tokens.stats["round_trip"] == {"documents": held, "exact": held, "failing": []}
    plain = run(tmp_path, [texts])
    assert plain.stats["normalized"] == 0
    assert plain.stats["round_trip"]["exact"] == held


def test_special_tokens_follow_the_end_of_text(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"special_tokens": ("<|user|>", "<|bot|>")})
    tokens = run(tmp_path, [[*variations(30), "a <|user|> says"]], config)
    tokenizer = Tokenizer.from_buffer(tokens.read("tokenizer.json"))
    assert [tokenizer.token_to_id(name) for name in (EOS, "<|user|>", "<|bot|>")] == [0, 1, 2]
    shards = TokenShards(tokens, "train")
    assert not {1, 2} & set(shards.read(0, len(shards)).tolist())
    assert not {0, 1, 2} & {item["id"] for item in tokens.stats["unused"]["examples"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"special_tokens": [EOS]}, "differ"),
        ({"special_tokens": ["x"]}, "two characters"),
        ({"vocab_size": 257, "special_tokens": ["<a>"]}, "vocab_size"),
    ],
)
def test_the_error_names_the_key_that_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizeConfig.model_validate(settings)


def test_the_bytes_depend_on_neither_workers_nor_parts(tmp_path: Path) -> None:
    texts = variations(90)
    one = run(tmp_path / "one", [texts[:50], texts[50:]])
    ctx = context(tmp_path / "two", workers=2)
    with ctx.cluster:
        data = corpus(ctx, [table(texts[:50]), table(texts[50:])])
        spec = task.spec(ctx, config=CONFIG, corpus=data)
        two = task.build(ctx, spec, config=CONFIG, corpus=data)
    assert contents(one) == contents(two)
    assert one.storage.read("manifest.json") == two.storage.read("manifest.json")
    divided = run(tmp_path / "three", [texts[60:], texts[:20], texts[20:60]])
    assert divided.read("tokenizer.json") == one.read("tokenizer.json")


def test_documents_in_other_parts_do_not_train_the_tokenizer_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = variations(40)
    run(tmp_path, [texts])
    monkeypatch.setattr(train_tokenizer, "train_tokenizer", None)  # must not be needed
    run(tmp_path, [texts[30:], texts[:30]])


def test_words_left_out_are_reported(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_distinct_words": 20})
    tokens = run(tmp_path, [variations(40)], config)
    training = tokens.stats["training"]
    assert training["distinct_words"] - training["distinct_left_out"] <= 20
    assert training["min_count"] > 1
    assert 0 < training["words_left_out"] < training["words"]


@pytest.mark.parametrize("settings", [{"special_tokens": ["user"]}, {"end_of_text": "END"}])
def test_a_special_token_that_is_an_ordinary_word_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="ordinary word"):
        TokenizeConfig.model_validate(settings)
    TokenizeConfig.model_validate({"special_tokens": ["<|user|>", "[INST]"]})
