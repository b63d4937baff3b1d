"""The tables against Python's own answers."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from infra.formats.unicode_tables import (
    ALPHA,
    ASSIGNED_END,
    DIGIT,
    EMPTY_PLANES,
    NUM_CODE_POINTS,
    PUNCT,
    SPACE,
    UPPER,
    WORD,
    char_tables,
)


@given(st.characters(exclude_categories=["Cs"]))
def test_flags_of_a_character(char: str) -> None:
    classes, lower = char_tables()
    flags = int(classes[ord(char)])
    category = unicodedata.category(char)
    assert bool(flags & SPACE) == char.isspace()
    assert bool(flags & WORD) == (char.isalnum() or category[0] == "M" or char == "_")
    assert bool(flags & ALPHA) == char.isalpha()
    assert bool(flags & UPPER) == (category == "Lu")
    assert bool(flags & DIGIT) == (category == "Nd")
    assert bool(flags & PUNCT) == (category[0] in "PS")
    assert chr(lower[ord(char)]) == char.lower()[0]


def test_code_points_that_the_tables_skip_have_no_property() -> None:
    for point in (*EMPTY_PLANES, *range(ASSIGNED_END, NUM_CODE_POINTS)):
        assert unicodedata.category(chr(point)) in ("Cn", "Co")
