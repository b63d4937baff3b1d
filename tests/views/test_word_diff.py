"""Word diffs lead from one text to the other and count what they leave out."""

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


def sides(spans: list[DiffSpan]) -> tuple[str, str]:
    """Both texts, without white space."""
    one = "".join(span.text for span in spans if span.kind != INSERT)
    other = "".join(span.text for span in spans if span.kind != DELETE)
    return one.replace(" ", ""), other.replace(" ", "")


def plain(text: str) -> str:
    return join_words(split_words(text)).replace(" ", "")


@given(WORDS, WORDS)
def test_a_difference_leads_from_one_text_to_the_other(one: list[str], other: list[str]) -> None:
    a, b = " ".join(one), "\n".join(other)
    spans = diff(a, b, max_shown=None)
    assert bool(spans) == ([w.text for w in split_words(a)] != [w.text for w in split_words(b)])
    if spans and not any(span.truncated for span in spans):
        assert sides(spans) == (plain(a), plain(b))
    assert all(span.words for span in spans)
    assert all(char.isprintable() for span in spans for char in span.text)


def test_equal_runs_are_shortened_to_a_few_words_beside_the_difference() -> None:
    words = [f"w{n}" for n in range(40)]
    other = [*words[:20], "here", *words[21:]]
    before, deleted, inserted, after = diff(" ".join(words), " ".join(other))
    assert before.text == "… (14 words) … " + " ".join(words[20 - CONTEXT_WORDS : 20])
    assert (before.words, before.truncated) == (20, True)
    assert (deleted.kind, deleted.text) == (DELETE, "w20")
    assert (inserted.kind, inserted.text) == (INSERT, "here")
    assert after.text == " ".join(words[21 : 21 + CONTEXT_WORDS]) + " … (13 words) …"


def test_a_run_of_the_context_is_left_as_it_is() -> None:
    words = [f"w{n}" for n in range(2 * CONTEXT_WORDS + 3)]
    other = ["x", *words[1:-1], "y"]
    assert [span.truncated for span in diff(" ".join(words), " ".join(other))] == [False] * 5


@pytest.mark.parametrize("max_shown", [None, 60])
def test_a_long_insertion_is_cut_unless_all_is_wanted(max_shown: int | None) -> None:
    more = " ".join(f"n{n}" for n in range(200))
    (_, inserted) = diff("the mill", f"the mill {more}", max_shown=max_shown)
    assert (inserted.kind, inserted.words) == (INSERT, 200)
    assert inserted.truncated == (max_shown is not None)
    if max_shown:
        assert inserted.text.startswith("n0 n1 ")
        assert "(140 words)" in inserted.text
        assert inserted.text.endswith("n199")


def test_white_space_is_no_difference() -> None:
    assert diff("the  mill\nturns", "the mill turns ") == []


def test_scripts_without_spaces_are_compared_by_character() -> None:
    spans = diff("通過國家嘅和國際", "通過國家嘅同國際")
    assert [(span.kind, span.text, span.leading_space) for span in spans] == [
        (EQUAL, "通過國家嘅", False),
        (DELETE, "和", False),
        (INSERT, "同", False),
        (EQUAL, "國際", False),
    ]


def test_words_that_are_not_compared_are_counted() -> None:
    one = " ".join(f"a{n}" for n in range(MAX_WORDS + 50))
    other = " ".join(f"b{n}" for n in range(MAX_WORDS + 50))
    *_, last = diff(f"{one} same end", f"{other} same end")
    assert last.text == "… (52 words were not compared)"
