import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from infra.formats.arrow_text import utf8_buffers
from infra.formats.byte_level import BYTE_BY_CHAR
from infra.formats.unicode_tables import NUM_CODE_POINTS
from tasks.tokenize import pretokenizer_kernel, word_table
from tasks.tokenize.char_classes import LETTER, NEWLINE, NUMBER, OTHER, SPACE, char_classes
from tasks.tokenize.pretokenizer import ALL_RULES, PretokenizerRule, detect_pretokenizer, empty_bpe
from tasks.tokenize.word_table import WordTable, count_whitespace_words, count_word_frequencies

RULES = pytest.mark.parametrize("rule", ALL_RULES, ids=lambda r: f"{r.style}-{r.digits}-{r.spaces}")
# What the parts of the patterns distinguish, in every order, and sometimes any character.
PIECES = st.lists(
    st.sampled_from(
        [
            *" \t\r\n'aZ猫é1½!😀\u0308\u017f\u00a0\u200b",
            "  ",
            "\r\n",
            "'s",
            "'LL",
            "'\u017f",
            "12345",
            "it",
            "...",
        ]
    ),
    max_size=14,
).map("".join)
TRICKY = PIECES | st.text(st.characters(exclude_categories=["Cs"]))


def split_by_library(rule: PretokenizerRule, text: str) -> list[bytes]:
    splitter = empty_bpe(rule).pre_tokenizer
    assert splitter is not None
    return [
        bytes(BYTE_BY_CHAR[char] for char in word) for word, _ in splitter.pre_tokenize_str(text)
    ]


def split_by_kernel(rule: PretokenizerRule, texts: list[str]) -> list[list[bytes]]:
    known, offsets = WordTable(rule), utf8_buffers(pa.array(texts, pa.large_string()))
    result: list[list[bytes]] = [[]]
    for read in known.iter_word_ids(*offsets):
        kept = known.column().to_pylist()
        for word in read.tolist():
            if word == word_table.END_OF_TEXT:
                result.append([])
            else:
                result[-1].append(kept[word].encode())
    assert result.pop() == []
    return result


def test_the_byte_alphabet_is_the_librarys() -> None:
    assert set(BYTE_BY_CHAR) == set(pre_tokenizers.ByteLevel.alphabet())


@RULES
@given(texts=st.lists(TRICKY, max_size=4))
def test_texts_are_split_as_the_library_splits_them(
    rule: PretokenizerRule, texts: list[str]
) -> None:
    assert split_by_kernel(rule, texts) == [split_by_library(rule, text) for text in texts]


@RULES
@pytest.mark.parametrize("around", ["{}", "a{}b", " {} ", "'{}1", "1{}2", "!{}\n", "\n{} x"])
def test_every_character_is_split_as_the_library_splits_it(
    rule: PretokenizerRule, around: str
) -> None:
    points = [
        *range(0x3000),
        *range(0xA600, 0xAC10),
        *range(0xF900, 0x10000),
        *range(0x1F600, 0x1F650),
    ]
    text = "\x00".join(around.format(chr(point)) for point in points)
    assert split_by_kernel(rule, [text]) == [split_by_library(rule, text)]


def test_code_points_have_the_librarys_class() -> None:
    table = char_classes()
    assert len(table) == NUM_CODE_POINTS
    assert [table[ord(c)] for c in "aß猫0½ \n\r\t!😀"] == [
        LETTER, LETTER, LETTER, NUMBER, NUMBER, SPACE, NEWLINE, NEWLINE, SPACE, OTHER, OTHER,
    ]  # fmt: skip


@RULES
def test_words_do_not_depend_on_the_buffer_size(
    rule: PretokenizerRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"it's {n} 1234567{n}  \n word{n} '" * 9 for n in range(300)]
    whole = split_by_kernel(rule, texts)
    monkeypatch.setattr(word_table, "BUFFER_WORDS", 7)
    assert split_by_kernel(rule, texts[:40]) == whole[:40]
    assert whole[-1] == split_by_library(rule, texts[-1])


def test_every_word_of_a_large_table_is_counted_once_per_occurrence() -> None:
    text = " ".join(map(str, range(200_000)))
    table = count_word_frequencies(
        PretokenizerRule(), *utf8_buffers(pa.array([text, text], pa.large_string()))
    )
    assert table.num_rows == 200_000
    assert set(table["count"].to_pylist()) == {2}
    assert table["word"].to_pylist() == sorted(table["word"].to_pylist())


@given(st.lists(TRICKY, max_size=20))
def test_counts_equal_those_of_the_librarys_words(texts: list[str]) -> None:
    table = count_word_frequencies(
        PretokenizerRule("llama3"), *utf8_buffers(pa.array(texts, pa.large_string()))
    )
    expected: dict[bytes, int] = {}
    for text in texts:
        for word in split_by_library(PretokenizerRule("llama3"), text):
            expected[word] = expected.get(word, 0) + 1
    assert dict(zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True)) == {
        word.decode(): number for word, number in expected.items()
    }


def test_a_very_long_word_is_split_between_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "猫" * (pretokenizer_kernel.MAX_WORD_BYTES // 3 + 5)
    [pieces] = split_by_kernel(PretokenizerRule(), [text])
    assert len(pieces) == 2
    assert "".join(piece.decode() for piece in pieces) == text


@given(st.lists(st.text(st.sampled_from("ab é猫\n\t.")), max_size=5))
def test_whitespace_separated_words_are_counted(texts: list[str]) -> None:
    column = utf8_buffers(pa.array(texts, pa.large_string()))
    assert count_whitespace_words(*column).tolist() == [len(text.split()) for text in texts]


def test_supported_rules_are_detected_and_others_are_not() -> None:
    for rule in ALL_RULES:
        for normalization in ("none", "nfc"):
            assert detect_pretokenizer(empty_bpe(rule, normalization).to_str().encode()) == rule
    other = empty_bpe(PretokenizerRule())
    other.pre_tokenizer = pre_tokenizers.Whitespace()
    assert detect_pretokenizer(other.to_str().encode()) is None
    prefixed = empty_bpe(PretokenizerRule())
    prefixed.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert detect_pretokenizer(prefixed.to_str().encode()) is None
    eager = empty_bpe(PretokenizerRule())
    eager.add_tokens(["not special"])
    assert detect_pretokenizer(eager.to_str().encode()) is None
