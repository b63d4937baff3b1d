import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers, trainers

from infra.formats.arrow_text import utf8_buffers
from tasks.tokenize.bpe import MIN_FREQUENCY, train_bpe, train_bpe_from_texts
from tasks.tokenize.pretokenizer import ALL_RULES, PretokenizerRule, empty_bpe
from tasks.tokenize.word_table import count_word_frequencies
from tests.tokenize.corpora import EOS, PROSE, variations

FEW = st.text(st.sampled_from("aab  é1\n"), max_size=40)


def train_with_library(
    texts: list[str], size: int, specials: list[str], rule: PretokenizerRule, nfc: bool = False
) -> bytes:
    tokenizer = empty_bpe(rule, "nfc" if nfc else "none")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str(pretty=True).encode()


@settings(deadline=None)
@given(
    texts=st.lists(FEW | st.text(st.characters(exclude_categories=["Cs"])), max_size=12),
    size=st.integers(258, 340),
    rule=st.sampled_from(ALL_RULES),
)
def test_the_file_equals_the_one_of_the_librarys_trainer(
    texts: list[str], size: int, rule: PretokenizerRule
) -> None:
    ours = train_bpe_from_texts(texts, vocab_size=size, special_tokens=[EOS], rule=rule)
    assert ours == train_with_library(texts, size, [EOS], rule)


@pytest.mark.parametrize(
    "rule",
    [PretokenizerRule(), PretokenizerRule("llama3", "groups_of_three", "split")],
    ids=["gpt2", "other"],
)
@pytest.mark.parametrize("size", [300, 900, 3_000])
def test_the_file_is_the_same_for_prose(rule: PretokenizerRule, size: int) -> None:
    texts = [*PROSE, *variations(400), "aaaaaaaaaaaa " * 9, "abababab xaxaxa " * 7]
    ours = train_bpe_from_texts(texts, vocab_size=size, special_tokens=[EOS, "<pad>"], rule=rule)
    assert ours == train_with_library(texts, size, [EOS, "<pad>"], rule)


def test_normalized_text_trains_as_in_the_library() -> None:
    texts = [*PROSE, "e\u0301t\u00e9 e\u0301t\u00e9 " * 5, "\u212b \u212b\u212b"]
    ours = train_bpe_from_texts(texts, vocab_size=400, special_tokens=[EOS], normalization="nfc")
    assert ours == train_with_library(texts, 400, [EOS], PretokenizerRule(), nfc=True)
    assert ours != train_bpe_from_texts(texts, vocab_size=400, special_tokens=[EOS])


def test_a_merge_that_spells_a_special_token_gets_its_id_as_in_the_library() -> None:
    texts = ["abc abc abc ab ab xyz"] * 3
    ours = train_bpe_from_texts(texts, vocab_size=280, special_tokens=[EOS, "abc"])
    assert ours == train_with_library(texts, 280, [EOS, "abc"], PretokenizerRule())


def test_counts_beyond_32_bits_give_the_merges_of_the_texts() -> None:
    counted = count_word_frequencies(
        PretokenizerRule(), *utf8_buffers(pa.array(["ab ab cd"], pa.large_string()))
    )
    huge = counted["count"].to_numpy() * (1 << 40)
    one = json.loads(
        train_bpe(
            utf8_buffers(counted["word"]),
            huge,
            vocab_size=300,
            special_tokens=[EOS],
            rule=PretokenizerRule(),
        )
    )
    twice = json.loads(train_bpe_from_texts(["ab ab cd"] * 2, vocab_size=300, special_tokens=[EOS]))
    assert one["model"]["merges"] == twice["model"]["merges"] != []
