import random
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.acquire.books.plaintext import WrapModel, split_blocks

PARAGRAPHS = [
    (
        "To Sherlock Holmes she is always THE woman. I have seldom heard him mention her under any "
        "other name. In his eyes she eclipses and predominates the whole of her sex. It was not that "
        "he felt any emotion akin to love for Irene Adler."
    ),
    (
        "I had seen little of Holmes lately. My marriage had drifted us away from each other. My own "
        "complete happiness, and the home-centred interests which rise up around the man who first "
        "finds himself master of his own establishment, were sufficient to absorb all my attention."
    ),
    (
        '"Wedlock suits you," he remarked. "I think, Watson, that you have put on seven and a half '
        'pounds since I saw you."'
    ),
]
VERSE = """\
Once upon a midnight dreary,
While I pondered, weak and weary,
Over many a quaint and curious
Volume of forgotten lore"""


def unwrapped(text: str) -> str:
    blocks = split_blocks(text.split("\n"))
    wrapping = WrapModel(blocks)
    return "\n\n".join(wrapping.unwrap(block) for block in blocks)


@pytest.mark.parametrize("columns", [55, 65, 72, 80])
def test_a_paragraph_becomes_a_line(columns: int) -> None:
    wrapped = "\n\n".join(textwrap.fill(p, columns, break_on_hyphens=False) for p in PARAGRAPHS * 3)
    assert unwrapped(wrapped) == "\n\n".join(PARAGRAPHS * 3)


def test_verse_keeps_its_lines_amid_prose() -> None:
    prose = "\n\n".join(textwrap.fill(p, 72) for p in PARAGRAPHS * 3)
    assert VERSE in unwrapped(f"{prose}\n\n{VERSE}\n\n{prose}")


def test_indented_blocks_are_unchanged() -> None:
    quote = textwrap.indent(textwrap.fill(PARAGRAPHS[0], 66), "    ")
    prose = "\n\n".join(textwrap.fill(p, 72) for p in PARAGRAPHS)
    assert quote in unwrapped(f"{prose}\n\n{quote}\n\n{prose}")


def test_a_book_of_verse_stays_verse() -> None:
    rng = random.Random(7)
    words = "thou shalt not waste the silver hours of morning light beneath oak and elm".split()
    stanzas = "\n\n".join(
        "\n".join(" ".join(rng.choices(words, k=rng.randint(6, 8))).capitalize() for _ in range(6))
        for _ in range(30)
    )
    assert unwrapped(stanzas) == stanzas


def test_paragraphs_that_begin_with_an_indent_are_set_apart() -> None:
    text = "\n".join(
        textwrap.fill(p, 72, initial_indent="  ", break_on_hyphens=False) for p in PARAGRAPHS
    )
    assert unwrapped(text).split("\n\n") == PARAGRAPHS


def test_a_speech_with_a_hanging_indent_is_one_paragraph() -> None:
    speeches = [
        textwrap.fill(f"ORLANDO {p}", 72, subsequent_indent="\t", break_on_hyphens=False)
        for p in PARAGRAPHS
    ]
    verse = "ORLANDO\tHang there, my verse,\n\tin witness of my love:\n\tO Rosalind!"
    assert unwrapped("\n\n".join([*speeches, verse])).split("\n\n") == [
        *(f"ORLANDO {p}" for p in PARAGRAPHS),
        verse.expandtabs(),
    ]


def test_words_cut_at_a_line_end() -> None:
    filler = "and then the narrative went on for quite a while until\n" * 4
    cut = "this was the longest and most remarkable such narra-\ntive of them all, and also a well-\nknown one. A well-known tale."
    joined = unwrapped(f"{filler}the end.\n\n{cut}")
    assert "such narrative of them all" in joined
    assert "a well-known one" in joined


def test_dashes_and_unspaced_scripts_join_without_a_space() -> None:
    line = "x" * 66
    assert unwrapped(f"{line} word--\nnext {line[:60]}\n{line}") == (
        f"{line} word--next {line[:60]} {line}"
    )
    chinese = "學而時習之不亦說乎有朋自遠方來不亦樂乎人不知而不慍不亦君子乎"
    assert unwrapped(f"{chinese}\n{chinese}\n不亦") == f"{chinese}{chinese}不亦"


def test_a_common_margin_is_removed() -> None:
    blocks = split_blocks(["     one", "     two", "", "       three"])
    assert [block.lines for block in blocks] == [("one", "two"), ("  three",)]


def test_text_that_was_never_wrapped_is_unchanged() -> None:
    text = "\n".join(PARAGRAPHS)
    assert unwrapped(text) == text


@given(st.text(alphabet="ab A-.\n\t語", max_size=400))
def test_nothing_but_white_space_and_hyphens_ever_changes(text: str) -> None:
    def letters(value: str) -> list[str]:
        return [c for c in value if not c.isspace() and c != "-"]

    assert letters(unwrapped(text)) == letters(text)
