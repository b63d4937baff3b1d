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


FIELDS = "Title: The Ferry\n\nAuthor: Nobody\n\nRelease Date: June, 2001  [Etext #9999]\n\nLanguage: English\n"
PROSE = "\n\n".join(f"The lamp on the quay was lit on evening {number}." for number in range(60))
TITLE = "The Project Gutenberg Etext of The Ferry, by Nobody\n"
LICENSE = "You may copy it under the terms of the Project Gutenberg License.\n"


@pytest.mark.parametrize("length", [1, 60])
def test_small_print_at_the_end_costs_no_short_book(length: int) -> None:
    body = "\n\n".join(PROSE.split("\n\n")[:length])
    text = (
        f"{TITLE}\nCopyright laws are changing all over the world.\n\nWe have moved most of the "
        f"information to the end.\n\n{FIELDS}\n\n{body}\n\nEnd of The Project Gutenberg Etext of The "
        "Ferry\n\nThis file should be named ferry10.txt\n\n***START**THE SMALL PRINT!**START***\nWhy?\n\n"
        "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*\n"
    )
    assert own(text) == body


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("*** START OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK X ***",
         "*** END OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK X ***"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***",
         'Ende dieses Projekt Gutenberg Etextes "X", von Y'),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "Ende dieses Project Gutenberg E-Books X"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "Fin de ce Projet Gutenberg Etext de X"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "Fin du Projet Gutenberg: X"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "Fin de l'Etext du Projet Gutenberg X"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "Fin del Proyecto Gutenberg X"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "Fine del Progetto Gutenberg X"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "Ende dieses Etextes X"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "Slutet på Project Gutenbergs X"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***",
         "**This is a COPYRIGHTED Project Gutenberg Etext, Details Above**"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "THE END\nEnd of Project Gutenberg's X"),
        ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***",
         "End of the Project Gutenberg EBook of X\n\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("footer", [LICENSE, LICENSE * 100, "Notes.\n"])
def test_marks_of_other_kinds_and_languages(start: str, end: str, footer: str) -> None:
    text = f"{TITLE}\n{FIELDS}\n{start}\n\n{PROSE}\n\n{end}\n\n{footer}"
    assert own(text).removesuffix("THE END").strip() == PROSE


@pytest.mark.parametrize(
    "mention",
    [
        "End of the Project Gutenberg volunteers' dinner came at midnight, and\neverybody went home.",
        "Fin de siecle readers of Project Gutenberg would not have known the ferry.",
        "and so came the\nend of Project Gutenberg's first decade, which nobody had foreseen at all.",
        "End of Project Gutenberg's first decade: it was a cold winter, and nobody had foreseen it.",
    ],
)
@pytest.mark.parametrize("remaining", [1, 50])
def test_prose_that_mentions_an_end_is_not_one(mention: str, remaining: int) -> None:
    paragraphs = PROSE.split("\n\n")
    body = "\n\n".join([*paragraphs[:-remaining], mention, *paragraphs[-remaining:]])
    mark = "PROJECT GUTENBERG EBOOK THE FERRY ***"
    text = f"{TITLE}\n{FIELDS}\n*** START OF THE {mark}\n\n{body}\n\n*** END OF THE {mark}\n\n{LICENSE}"
    assert own(text) == body


@pytest.mark.parametrize(
    "end", ["Projekti Gutenbergin kirjan loppu", "Koniec Project Gutenberg", ""]
)
@pytest.mark.parametrize(
    "first", ["This file should be named 1.txt", "*** START: FULL LICENSE ***"]
)
def test_a_footer_is_known_by_its_own_words(end: str, first: str) -> None:
    start = "*** START OF THIS PROJECT GUTENBERG EBOOK X ***"
    assert own(f"{TITLE}\n{FIELDS}\n{start}\n\n{PROSE}\n\n{end}\n\n{first}\n\n{LICENSE}") == PROSE


@pytest.mark.parametrize("mark", ["_End of Project Gutenberg's X_", "[End of the Project Gutenberg Etext]",
                                  "The End of the Project Gutenberg Etext of X"])  # fmt: skip
def test_end_marks_in_brackets(mark: str) -> None:
    start = "*** START OF THIS PROJECT GUTENBERG EBOOK X ***"
    assert own(f"{TITLE}\n{FIELDS}\n{start}\n\n{PROSE}\n\n{mark}\n") == PROSE


def test_small_print_at_the_end_without_an_end_mark() -> None:
    small_print = "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nWhy?\n*END*THE SMALL PRINT!*END*\n"
    body = "\n\n".join(PROSE.split("\n\n")[:20])
    assert own(f"{TITLE}\n{FIELDS}\n{body}\n\n{small_print}") == body


def test_a_quoted_mark_with_stars_ends_nothing() -> None:
    mark = "PROJECT GUTENBERG EBOOK THE FERRY ***"
    body = f"{PROSE}\n\n*** END OF THE {mark}\n\nstands in every file.\n\n{PROSE}"
    license_ = f"*** START: FULL LICENSE ***\n\n{LICENSE * 100}\n\n*** END: FULL LICENSE ***\n"
    text = f"{TITLE}\n{FIELDS}\n*** START OF THE {mark}\n\n{body}\n\n*** END OF THE {mark}\n\n{license_}"
    assert own(text) == body


def test_notes_about_other_editions_are_credits() -> None:
    credit = "E-text prepared by A. Man\n\nNote: Project Gutenberg also has an HTML version of this\n      file.\n"
    start = "*** START OF THIS PROJECT GUTENBERG EBOOK X ***"
    assert own(f"{TITLE}\n{FIELDS}\n{start}\n\n{credit}\n{PROSE}\n") == PROSE


def test_an_ebook_of_project_gutenberg_of_australia() -> None:
    header = f"A Project Gutenberg of Australia eBook\n\n{FIELDS}\nProject Gutenberg of Australia eBooks are free.\n"
    assert own(f"{header}\n{PROSE}\n") == PROSE
