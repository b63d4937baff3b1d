"""Word differences: they lead from one text to the other, and say how much they leave out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from views.duplicates.word_diff import (
    CONTEXT_WORDS,
    DELETE,
    EQUAL,
    INSERT,
    MAX_WORDS,
    DiffSpan,
    diff,
    join_words,
    split_words,
)

WORDS = st.lists(st.sampled_from(["the", "mill", "turns", "穀", "物", "a\u202eb", "\x1b[2J"]))


def sides(pieces: list[DiffSpan]) -> tuple[str, str]:
    """Both texts, without white space."""
    one = "".join(piece.text for piece in pieces if piece.kind != INSERT)
    other = "".join(piece.text for piece in pieces if piece.kind != DELETE)
    return one.replace(" ", ""), other.replace(" ", "")


def plain(text: str) -> str:
    return join_words(split_words(text)).replace(" ", "")


@given(WORDS, WORDS)
def test_a_difference_leads_from_one_text_to_the_other(one: list[str], other: list[str]) -> None:
    a, b = " ".join(one), "\n".join(other)
    pieces = diff(a, b, max_shown=None)
    assert bool(pieces) == ([w.text for w in split_words(a)] != [w.text for w in split_words(b)])
    if pieces and not any(piece.truncated for piece in pieces):
        assert sides(pieces) == (plain(a), plain(b))
    assert all(piece.words for piece in pieces)
    assert all(char.isprintable() for piece in pieces for char in piece.text)


def test_equal_runs_are_shortened_to_a_few_words_beside_the_difference() -> None:
    words = [f"w{n}" for n in range(40)]
    other = [*words[:20], "here", *words[21:]]
    before, gone, new, after = diff(" ".join(words), " ".join(other))
    assert before.text == "… (14 words) … " + " ".join(words[20 - CONTEXT_WORDS : 20])
    assert (before.words, before.truncated) == (20, True)
    assert (gone.kind, gone.text) == (DELETE, "w20")
    assert (new.kind, new.text) == (INSERT, "here")
    assert after.text == " ".join(words[21 : 21 + CONTEXT_WORDS]) + " … (13 words) …"


def test_a_run_of_the_context_is_left_as_it_is() -> None:
    words = [f"w{n}" for n in range(2 * CONTEXT_WORDS + 3)]
    other = ["x", *words[1:-1], "y"]
    assert [piece.truncated for piece in diff(" ".join(words), " ".join(other))] == [False] * 5


@pytest.mark.parametrize("longest", [None, 60])
def test_a_long_insertion_is_cut_unless_all_is_wanted(longest: int | None) -> None:
    more = " ".join(f"n{n}" for n in range(200))
    (_, new) = diff("the mill", f"the mill {more}", max_shown=longest)
    assert (new.kind, new.words) == (INSERT, 200)
    assert new.truncated == (longest is not None)
    if longest:
        assert new.text.startswith("n0 n1 ")
        assert "(140 words)" in new.text
        assert new.text.endswith("n199")


def test_white_space_is_no_difference() -> None:
    assert diff("the  mill\nturns", "the mill turns ") == []


def test_scripts_without_spaces_are_compared_by_character() -> None:
    pieces = diff("通過國家嘅和國際", "通過國家嘅同國際")
    assert [(piece.kind, piece.text, piece.leading_space) for piece in pieces] == [
        (EQUAL, "通過國家嘅", False),
        (DELETE, "和", False),
        (INSERT, "同", False),
        (EQUAL, "國際", False),
    ]


def test_what_is_too_long_to_compare_is_counted() -> None:
    one = " ".join(f"a{n}" for n in range(MAX_WORDS + 50))
    other = " ".join(f"b{n}" for n in range(MAX_WORDS + 50))
    *_, last = diff(f"{one} same end", f"{other} same end")
    assert last.text == "… (52 words were not compared)"
