import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers, trainers

from infra.formats.arrow_text import utf8
from tasks.tokenize.bpe import MIN_FREQUENCY, build, train
from tasks.tokenize.pretokenizer import ALL, Rule, untrained
from tasks.tokenize.word_table import count
from tests.tokenize.corpora import EOS, PROSE, variations

FEW = st.text(st.sampled_from("aab  é1\n"), max_size=40)


def by_the_library(
    texts: list[str], size: int, specials: list[str], rule: Rule, nfc: bool = False
) -> bytes:
    tokenizer = untrained(rule, "nfc" if nfc else "none")
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
    rule=st.sampled_from(ALL),
)
def test_the_file_is_the_one_that_the_librarys_trainer_makes(
    texts: list[str], size: int, rule: Rule
) -> None:
    ours = train(texts, vocab_size=size, specials=[EOS], rule=rule)
    assert ours == by_the_library(texts, size, [EOS], rule)


@pytest.mark.parametrize("rule", [Rule(), Rule("llama3", "threes", "apart")], ids=["gpt2", "other"])
@pytest.mark.parametrize("size", [300, 900, 3_000])
def test_the_file_is_the_same_for_prose(rule: Rule, size: int) -> None:
    texts = [*PROSE, *variations(400), "aaaaaaaaaaaa " * 9, "abababab xaxaxa " * 7]
    ours = train(texts, vocab_size=size, specials=[EOS, "<pad>"], rule=rule)
    assert ours == by_the_library(texts, size, [EOS, "<pad>"], rule)


def test_normalised_text_trains_as_in_the_library() -> None:
    texts = [*PROSE, "e\u0301t\u00e9 e\u0301t\u00e9 " * 5, "\u212b \u212b\u212b"]
    ours = train(texts, vocab_size=400, specials=[EOS], normalisation="nfc")
    assert ours == by_the_library(texts, 400, [EOS], Rule(), nfc=True)
    assert ours != train(texts, vocab_size=400, specials=[EOS])


def test_a_merge_that_spells_a_special_token_leads_to_it_as_in_the_library() -> None:
    texts = ["abc abc abc ab ab xyz"] * 3
    ours = train(texts, vocab_size=280, specials=[EOS, "abc"])
    assert ours == by_the_library(texts, 280, [EOS, "abc"], Rule())


def test_counts_stand_for_texts_even_beyond_32_bits() -> None:
    counted = count(Rule(), *utf8(pa.array(["ab ab cd"], pa.large_string())))
    huge = counted["count"].to_numpy() * (1 << 40)
    one = json.loads(
        build(utf8(counted["word"]), huge, vocab_size=300, specials=[EOS], rule=Rule())
    )
    twice = json.loads(train(["ab ab cd"] * 2, vocab_size=300, specials=[EOS]))
    assert one["model"]["merges"] == twice["model"]["merges"] != []
