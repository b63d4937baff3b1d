import pytest

from tasks.acquire.books.gutenberg import Header, strip_boilerplate

MODERN = """\
The Project Gutenberg EBook of Moby Dick; or The Whale, by Herman Melville

This eBook is for the use of anyone anywhere at no cost.

Title: Moby Dick;
       or The Whale

Author: Herman Melville

Posting Date: December 25, 2008 [EBook #2701]
Release Date: June, 2001

Language: English

{start}



Produced by Daniel Lazarus
and Jonesey



MOBY DICK

Call me Ishmael.

{end}

***** This file should be named 2701.txt *****
"""
OLD = """\
The Project Gutenberg Etext of The Raven, by Edgar Allan Poe
#6 in our series

Copyright laws are changing all over the world.

April, 2000  [Etext #2147]

*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*

Once upon a midnight dreary

End of The Project Gutenberg Etext of The Raven, by Edgar Allan Poe
"""


def own(text: str) -> str:
    lines = text.split("\n")
    stripped = strip_boilerplate(lines)
    return "\n".join("\n".join(lines[start:end]) for start, end in stripped.spans).strip()


@pytest.mark.parametrize(
    "start",
    [
        "*** START OF THIS PROJECT GUTENBERG EBOOK MOBY DICK ***",
        "*** START OF THE PROJECT GUTENBERG EBOOK MOBY DICK ***",
        "***START OF THE PROJECT GUTENBERG EBOOK MOBY DICK***",
        "*** START OF THIS PROJECT GUTENBERG EBOOK MOBY DICK; OR\nTHE WHALE ***",
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*",
        "*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN*END*\n\n\n***START OF THE PROJECT GUTENBERG EBOOK X***",
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        "*** END OF THIS PROJECT GUTENBERG EBOOK MOBY DICK ***",
        "***END OF THE PROJECT GUTENBERG EBOOK MOBY DICK***",
        "End of Project Gutenberg's Moby Dick, by Herman Melville",
        "End of the Project Gutenberg EBook of Moby Dick\n\n*** END OF THIS PROJECT GUTENBERG EBOOK",
        "End of this Project Gutenberg Etext of Moby Dick",
        "*End of The Project Gutenberg Etext of Moby Dick",
    ],
)
def test_header_footer_and_credits_are_removed(start: str, end: str) -> None:
    assert own(MODERN.format(start=start, end=end)) == "MOBY DICK\n\nCall me Ishmael."


def test_the_header_is_read() -> None:
    lines = MODERN.format(start="*** START OF THE PROJECT GUTENBERG EBOOK X ***", end="").split(
        "\n"
    )
    assert strip_boilerplate(lines).header == Header(
        "Moby Dick; or The Whale", ("Herman Melville",), "2001-06", "en"
    )


def test_the_small_print_of_the_nineties() -> None:
    assert own(OLD) == "Once upon a midnight dreary"
    header = strip_boilerplate(OLD.split("\n")).header
    assert header == Header("The Raven", ("Edgar Allan Poe",), "2000-04", None)


def test_several_works_in_one_file_each_lose_their_header() -> None:
    three = own(OLD + "\n" + OLD.replace("midnight", "morning") + "\n" + OLD)
    assert three.count("Once upon a") == 3
    assert "Gutenberg" not in three
    assert "SMALL PRINT" not in three


def test_small_print_after_the_end_opens_no_new_body() -> None:
    tail = "\nWe need your donations.\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*END*\nlegal\n"
    assert own(OLD + tail) == "Once upon a midnight dreary"


@pytest.mark.parametrize(
    ("release", "iso"),
    [
        ("June 25, 2008 [EBook #11]", "2008-06-25"),
        ("Sept 1, 1999", "1999-09-01"),
        ("2004-05-06", "2004-05-06"),
        ("Whitsun, 2008", None),
    ],
)
def test_release_dates(release: str, iso: str | None) -> None:
    text = f"Release Date: {release}\n\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\ntext"
    assert strip_boilerplate(text.split("\n")).header.date == iso


def test_other_books_are_unchanged() -> None:
    text = "A history of Project Gutenberg\n\nIt began in 1971. Part of it was produced by hand."
    stripped = strip_boilerplate(text.split("\n"))
    assert (stripped.spans, stripped.has_boilerplate) == ([(0, 3)], False)


def test_a_header_that_is_a_title_alone() -> None:
    lines = ["The Project Gutenberg Etext of WORKSHOP, by Daly", "", "Proceedings", "", "Text."]
    stripped = strip_boilerplate(lines)
    assert (stripped.spans, stripped.header) == ([(1, 5)], Header("WORKSHOP", ("Daly",)))


def test_a_header_without_an_end_costs_no_book() -> None:
    header = "Project Gutenberg's Poems, by Nobody\nfree\nof\ncharge"
    assert own(f"{header}\n\nA line of it.\n").endswith("A line of it.")
