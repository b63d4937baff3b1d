import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.arrow_text import utf8_buffers
from tasks.tokenize import word_cache_encoder, word_table
from tasks.tokenize.bpe import train_bpe_from_texts
from tasks.tokenize.encode import EncodedTexts, Encoder
from tasks.tokenize.pretokenizer import ALL_RULES, PretokenizerRule
from tests.tokenize.corpora import EOS, PROSE, variations
from tests.tokenize.test_pretokenizer_kernel import TRICKY

TRAINED = {
    rule: train_bpe_from_texts(PROSE, vocab_size=420, special_tokens=[EOS], rule=rule)
    for rule in ALL_RULES
}
TEXTS = st.lists(TRICKY | st.sampled_from([*PROSE, EOS, ""]), max_size=5)


def column(texts: list[str]) -> "pa.Array[str]":
    return pa.array(texts, pa.large_string())


def split_by_text(encoded: EncodedTexts) -> list[list[int]]:
    ends = np.cumsum(encoded.lengths)
    return [part.tolist() for part in np.split(encoded.tokens, ends)[:-1]]


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: "-".join(vars(rule).values()))
@given(texts=TEXTS)
def test_ids_equal_those_of_the_library(rule: PretokenizerRule, texts: list[str]) -> None:
    encoder = Encoder(TRAINED[rule], EOS)
    assert encoder.word_cache is not None
    encoded = encoder.encode_column(column(texts))
    assert encoded.tokens.dtype == encoder.dtype
    expected = [ids.tolist() for ids in encoder.encode(texts) if not isinstance(ids, Exception)]
    assert split_by_text(encoded) == expected
    rows = np.arange(len(texts))
    assert encoder.word_cache.roundtrips(
        *utf8_buffers(column(texts)),
        encoded.tokens,
        np.cumsum(encoded.lengths) - encoded.lengths,
        rows,
    ).all()


def modify(change: Callable[[dict[str, object]], object]) -> bytes:
    data = json.loads(TRAINED[PretokenizerRule("llama3")])
    change(data)
    return json.dumps(data).encode()


def test_ignore_merges_is_obeyed() -> None:
    """As in Llama 3's file: a word that is in the vocabulary is that token."""

    def ignore(data: dict[str, object]) -> None:
        model = json.loads(json.dumps(data["model"]))
        model["ignore_merges"] = True
        model["vocab"]["ĠIshmael"] = 420
        data["model"] = model

    encoder = Encoder(modify(ignore), EOS)
    assert encoder.word_cache is not None
    [ids] = split_by_text(encoder.encode_column(column(["Call me Ishmael."])))
    assert 420 in ids
    [same] = encoder.encode(["Call me Ishmael."])
    assert not isinstance(same, Exception)
    assert ids == same.tolist()


def test_a_tokenizer_with_an_unsupported_rule_is_run_by_the_library() -> None:
    def spaces(data: dict[str, object]) -> None:
        data["pre_tokenizer"] = {
            "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True
        }  # fmt: skip

    encoder = Encoder(modify(spaces), EOS)
    assert encoder.word_cache is None
    texts = [*PROSE, ""]
    encoded = encoder.encode_column(column(texts))
    expected = [ids.tolist() for ids in encoder.encode(texts) if not isinstance(ids, Exception)]
    assert split_by_text(encoded) == expected
    exact = encoder.roundtrips(column(texts), encoded, np.arange(len(texts)))
    assert exact == [
        encoder.decode(np.array(ids)) == text for ids, text in zip(expected, texts, strict=True)
    ]


def test_cleared_caches_and_small_buffers_do_not_change_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = variations(200)
    whole = split_by_text(Encoder(TRAINED[PretokenizerRule()], EOS).encode_column(column(texts)))
    monkeypatch.setattr(word_cache_encoder, "MAX_CACHE_BYTES", 100)
    monkeypatch.setattr(word_cache_encoder, "ENCODE_BATCH", 3)
    monkeypatch.setattr(word_table, "BUFFER_WORDS", 11)
    encoder = Encoder(TRAINED[PretokenizerRule()], EOS)
    for at in range(0, 200, 50):
        assert (
            split_by_text(encoder.encode_column(column(texts[at : at + 50]))) == whole[at : at + 50]
        )


def test_tokens_of_another_text_fail_the_round_trip() -> None:
    encoder = Encoder(TRAINED[PretokenizerRule()], EOS)
    encoded = encoder.encode_column(column(["one text", "another", ""]))
    rows = np.arange(3)
    assert encoder.roundtrips(column(["one text", "another", ""]), encoded, rows) == [True] * 3
    others = column(["one texts", "anothe", "x"])
    assert encoder.roundtrips(others, encoded, rows) == [False] * 3


def without_q() -> bytes:
    """A tokenizer that cannot encode "q": its unknown token is not in its vocabulary."""

    def unknown(data: dict[str, object]) -> None:
        model = json.loads(json.dumps(data["model"]))
        kept = {token: i for token, i in model["vocab"].items() if "q" not in token}
        merges = [pair for pair in model["merges"] if "q" not in "".join(pair)]
        data["model"] = {**model, "vocab": kept, "merges": merges, "unk_token": "<missing>"}

    return modify(unknown)


def test_a_word_that_cannot_be_encoded_fails_its_text_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Encoder(without_q(), EOS)
    assert encoder.word_cache is not None
    encoded_by_library: list[str] = []
    encode = encoder.encode

    def record(texts: list[str]) -> object:
        encoded_by_library.extend(texts)
        return encode(texts)

    monkeypatch.setattr(encoder, "encode", record)
    for texts, failing in (
        (["fine", "a q", "good"], [1]),
        (["good", "fine", "new"], []),
        (["q"], [0]),
    ):
        encoded = encoder.encode_column(column(texts))
        assert list(encoded.errors) == failing
        assert [int(n) > 0 for n in encoded.lengths] == [
            i not in failing for i in range(len(texts))
        ]
    assert encoded_by_library == ["a q", "q"]  # the other texts came from the cache


@given(
    st.lists(st.lists(TRICKY | st.sampled_from(["q", " quite", *PROSE]), max_size=4), max_size=4)
)
def test_texts_in_a_batch_with_failures_have_the_ids_of_the_library(
    batches: list[list[str]],
) -> None:
    encoder = Encoder(without_q(), EOS)
    for texts in batches:
        encoded = encoder.encode_column(column(texts))
        expected = encoder.encode(texts)
        failed = {row: str(ids) for row, ids in enumerate(expected) if isinstance(ids, Exception)}
        assert {row: str(error) for row, error in encoded.errors.items()} == failed
        assert set(failed) == {row for row, text in enumerate(texts) if "q" in text}
        assert split_by_text(encoded) == [
            [] if isinstance(ids, Exception) else ids.tolist() for ids in expected
        ]
