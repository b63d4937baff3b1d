import pytest

from tasks.acquire.books.chapters import find_chapters, is_part_heading
from tasks.acquire.books.plaintext import split_blocks

BODY = "\n\n" + "It was a dark and stormy night, and the rain fell in torrents upon the roof. " * 3


def titles(text: str) -> list[str]:
    return [title for title, _ in find_chapters(split_blocks(text.split("\n")))]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("CHAPTER I", "CHAPTER II"),
        ("Chapter 1. Loomings.", "Chapter 2. The Carpet-Bag."),
        ("CHAPTER ONE", "CHAPTER TWENTY-TWO"),
        ("I.", "II."),
        ("1", "2"),
        ("I. A SCANDAL IN BOHEMIA", "II. THE RED-HEADED LEAGUE"),
        ("BOOK THE FIRST", "BOOK THE SECOND"),
        ("CHAPITRE PREMIER", "CHAPITRE II"),
        ("Erstes Kapitel", "Zweites Kapitel"),
        ("Kapitel 1", "Kapitel 2"),
        ("Capítulo I", "Capítulo II"),
        ("ГЛАВА I", "ГЛАВА II"),
        ("ACT I", "SCENE II. A room in the castle."),
        ("PREFACE", "Epilogue"),
        ("_CHAPTER I_", "_CHAPTER II_"),
    ],
)
def test_headings(first: str, second: str) -> None:
    chapters = titles(f"{first}{BODY}\n\n{second}{BODY}")
    assert chapters == [first.strip("_"), second.strip("_")]


@pytest.mark.parametrize(
    "prose",
    [
        "Chapter I of this book was written in haste,",
        "Part of the ship, part of the crew.",
        "I have seen it.",
        "Act III was over when they came in, and the whole house had risen to its feet by then,",
        "chapter 7",
        "XIV",  # a bare number that counts on from nothing
        "42",
        "Book I have read before",
    ],
)
def test_prose_is_not_a_heading(prose: str) -> None:
    assert titles(f"{prose}{BODY}") == []


def test_a_table_of_contents_is_not_a_chapter() -> None:
    entries = [f"CHAPTER {n}. Of things, {n}" for n in ("I", "II", "III", "IV")]
    chapters = "\n\n".join(entry + BODY for entry in entries)
    assert titles("CONTENTS\n\n" + "\n".join(entries) + "\n\n" + chapters) == entries
    assert titles("CONTENTS\n\n" + "\n\n".join(entries) + "\n\n" + chapters) == entries
    preface = "To the Reader" + BODY
    assert titles("\n\n".join([*entries, preface, chapters])) == entries


def test_a_part_may_be_followed_by_its_first_chapter_at_once() -> None:
    text = f"PART I\n\nCHAPTER I{BODY}\n\nCHAPTER II{BODY}\n\nPART II\n\nCHAPTER I{BODY}"
    assert titles(text) == ["PART I", "CHAPTER I", "CHAPTER II", "PART II", "CHAPTER I"]


def test_a_title_on_the_next_line_belongs_to_the_heading() -> None:
    assert titles(f"CHAPTER I\nThe Boy{BODY}") == ["CHAPTER I The Boy"]
    assert titles(f"CHAPTER I\n\nTHE BOY{BODY}") == ["CHAPTER I THE BOY"]
    assert titles(f'CHAPTER I\n\n"TOM!"{BODY}') == ["CHAPTER I"]


def test_numbers_continue_from_headings_of_another_kind() -> None:
    text = f"ADVENTURE VI. A{BODY}\n\nVII. THE BLUE CARBUNCLE{BODY}\n\nVIII. THE BAND{BODY}"
    assert titles(text) == ["ADVENTURE VI. A", "VII. THE BLUE CARBUNCLE", "VIII. THE BAND"]


def test_chapters_name_their_block() -> None:
    chapters = find_chapters(
        split_blocks(f"Title\n\nCHAPTER I{BODY}\n\nCHAPTER II{BODY}".split("\n"))
    )
    assert chapters == [("CHAPTER I", 1), ("CHAPTER II", 3)]


def test_part_headings() -> None:
    assert is_part_heading("PART II: The Road")
    assert is_part_heading("Livre premier")
    assert not is_part_heading("Chapter 2")
    assert not is_part_heading("Partly cloudy")
