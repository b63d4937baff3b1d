"""Chapter headings of plain-text books, distinguished from tables of contents and from prose."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.acquire.books.plaintext import LineBlock

# A longer line is not a heading.
MAX_HEADING_CHARS = 90

# A longer block that begins like a heading is a list or prose.
MAX_HEADING_LINES = 3

# A heading followed by fewer characters has no text of its own.
MIN_BODY_CHARS = 120

# This many headings in a row without text between them are a table of contents.
MIN_CONTENTS_ENTRIES = 3

_ROMAN = r"[IVXLCDM]+"
_ONES = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    "sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
)
_ORDINALS = (
    "the first|the second|the third|the fourth|the fifth|the sixth|the last|first|second|third|"
    "premier|première|premiere|i?er|erstes|zweites|drittes|primo|prima|primero|primera"
)
_NUMBER = rf"(?:{_ROMAN}|\d{{1,3}}|(?:{_ONES})(?:[- ](?:{_ONES}))?|{_ORDINALS})"
_KINDS = (
    "chapter|book|part|volume|act|scene|canto|letter|stave|section|adventure|episode|"  # English
    "chapitre|livre|tome|partie|acte|scène|chant|lettre|"  # French
    "kapitel|buch|teil|theil|band|akt|aufzug|auftritt|szene|gesang|brief|"  # German
    "capítulo|capitulo|libro|parte|acto|escena|tomo|"  # Spanish, Portuguese
    "capitolo|atto|scena|"  # Italian
    "hoofdstuk|boek|deel|luku|kapittel|rozdział|rozdzial|глава|часть|книга"
)
_KEYWORD = re.compile(
    rf"(?P<kind>{_KINDS})\s+(?P<number>{_NUMBER})(?![\w'’])(?P<rest>.*)", re.IGNORECASE
)
_GERMAN = re.compile(
    r"(?P<number>\w{3,18}(?:es|er|e|tes|ter|te))\s+(?P<kind>Kapitel|Buch|Teil|Theil|Akt|Aufzug|"
    r"Auftritt|Szene|Gesang|Abschnitt)\.?(?P<rest>.*)",
    re.IGNORECASE,
)
_BARE_NUMBER = re.compile(rf"(?P<number>{_ROMAN}|\d{{1,3}})(?:\.(?P<rest>.*))?")
_NAMED_SECTION = re.compile(
    r"(?:the\s+)?(?:preface|prologue|epilogue|introduction|foreword|conclusion|afterword|"
    r"postscript|appendix(?:\s+\w{1,4})?|préface|avant-propos|épilogue|vorwort|einleitung|"
    r"nachwort|prólogo|epílogo|prefazione|introduzione|conclusione|voorrede|предисловие)\.?",
    re.IGNORECASE,
)
_PART_HEADING = re.compile(
    rf"\W*(?:book|part|volume|act|livre|tome|partie|acte|buch|teil|theil|band|akt|aufzug|libro|"
    rf"parte|acto|tomo|atto|boek|deel|часть|книга)\s+{_NUMBER}\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Heading:
    """A line that reads like a heading.

    Attributes:
        block_index: the number of its block.
        title: its lines as one.
        kind: the word before the number, lower case; ``#`` for a bare number, ``=`` for a name.
        number: the number, if it is one we can count with.
    """

    block_index: int
    title: str
    kind: str
    number: int | None


def is_part_heading(title: str) -> bool:
    """Whether a title names a part that contains chapters ("PART II", "Livre premier")."""
    return _PART_HEADING.match(title) is not None


def find_chapters(blocks: Sequence[LineBlock]) -> list[tuple[str, int]]:
    """The chapters of a book: title and number of the block that it begins with, in order.

    A heading is a short block of its own: a word such as "Chapter", "Part" or "Act" (in ten
    languages) with a number, a Roman or Arabic number in an unbroken count from one, or a name
    such as "Preface". Headings in a row without text between them are a table of contents.
    """
    candidates = [
        h
        for number, block in enumerate(blocks)
        if (h := _match_heading(number, blocks)) is not None
    ]
    headings = _drop_contents(_drop_stray_numbers(candidates), blocks)
    return [(heading.title, heading.block_index) for heading in headings]


def _match_heading(index: int, blocks: Sequence[LineBlock]) -> Heading | None:
    lines = blocks[index].lines
    if len(lines) > MAX_HEADING_LINES or any(
        len(line.strip()) > MAX_HEADING_CHARS for line in lines
    ):
        return None
    first = lines[0].strip().strip("*_=[] ")
    title = " ".join(" ".join(lines).split()).strip("*_= ")
    match = _KEYWORD.fullmatch(first) or _GERMAN.fullmatch(first)
    if match:
        if not _can_be_title(match["rest"]) or first[:1].islower():
            return None
        kind, count = match["kind"].lower(), _parse_number(match["number"])
        if (
            count is None
            and _KEYWORD.fullmatch(first) is None
            and not _is_german_ordinal(match["number"])
        ):
            return None
    elif len(lines) == 1 and _NAMED_SECTION.fullmatch(first):
        return None if first[:1].islower() else Heading(index, title, "=", None)
    else:
        match = _BARE_NUMBER.fullmatch(first)
        rest = (match["rest"] or "").strip() if match else ""
        if not match or (rest and not (rest.isupper() or _is_title_case(rest))):
            return None
        kind, count = "#", _parse_number(match["number"])
        if count is None:
            return None
    if len(lines) == 1 and not (match["rest"] or "").strip(" .:-—") and index + 1 < len(blocks):
        # "CHAPTER I", a blank line, "THE BOY WHO LIVED"
        following = blocks[index + 1].lines
        name = following[0].strip()
        plausible = name.isupper() and name[0].isalpha() and not name.endswith(("!", "?", ","))
        if len(following) == 1 and plausible and 1 < len(name) <= MAX_HEADING_CHARS:
            ahead = _KEYWORD.fullmatch(name) or _BARE_NUMBER.fullmatch(name)
            title = title if ahead else f"{title} {name}"
    return Heading(index, title, kind, count)


def _can_be_title(rest: str) -> bool:
    """Whether the text after a chapter's number can be its title, not the rest of a sentence."""
    rest = rest.strip()
    if not rest:
        return True
    if rest[0] in ".:-–—,(":
        return not rest.endswith(",")
    return rest[0].isupper() or rest[0] in "\"“‘'«_*["


def _is_title_case(text: str) -> bool:
    words = [word for word in text.split() if word[:1].isalpha()]
    large = sum(word[0].isupper() for word in words if len(word) > 3)
    return bool(words) and words[0][0].isupper() and large == sum(len(w) > 3 for w in words)


def _is_german_ordinal(word: str) -> bool:
    return (
        re.match(
            r"erst|zweit|dritt|viert|fünft|sechst|sieb|acht|neunt|zehnt|elft|zwölft|\w+(zehn|zig)[st]?t",
            word,
            re.IGNORECASE,
        )
        is not None
    )


def _parse_number(text: str) -> int | None:
    """A number in Arabic or well-formed Roman digits; ``None`` for words."""
    if text.isdigit():
        return int(text)
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    digits = [values.get(letter, 0) for letter in text.upper()]
    if 0 in digits:
        return None
    total = sum(
        -value if value < max(digits[index + 1 :], default=0) else value
        for index, value in enumerate(digits)
    )
    return total if 0 < total < 400 else None


def _drop_stray_numbers(headings: Sequence[Heading]) -> list[Heading]:
    """Drop bare numbers that are not in a count: they are page or list numbers.

    A count goes 1, 2, ... with at least two members, or continues from a heading of another kind
    ("ADVENTURE VI. ...", then "VII. ...").
    """
    good: set[int] = set()
    run: list[Heading] = []
    for heading in headings:
        if heading.kind == "=":
            continue
        if run and heading.number == (run[-1].number or 0) + 1:
            run.append(heading)
            good.update((run[-2].block_index, heading.block_index))
        elif heading.kind != "#" or heading.number == 1:
            run = [heading]
    return [h for h in headings if h.kind != "#" or h.block_index in good]


def _drop_contents(headings: Sequence[Heading], blocks: Sequence[LineBlock]) -> list[Heading]:
    ends = [*(heading.block_index for heading in headings), len(blocks)][1:]
    bodies = [
        sum(len(line) for block in blocks[heading.block_index + 1 : end] for line in block.lines)
        for heading, end in zip(headings, ends, strict=True)
    ]
    kept: list[Heading] = []
    run: list[Heading] = []
    for heading, body in zip(headings, bodies, strict=True):
        run.append(heading)
        if body < MIN_BODY_CHARS:
            continue
        # The run's last heading has text. If it only continues the count, it is the last entry, and
        # the text is between the contents and the first chapter.
        empty = run[:-1]
        if len(empty) >= MIN_CONTENTS_ENTRIES:
            repeated = any(
                (h.kind, h.number) == (heading.kind, heading.number)
                and h.block_index > heading.block_index
                for h in headings
            )
            follows = (heading.kind, heading.number) == (
                empty[-1].kind,
                (empty[-1].number or 0) + 1,
            )
            kept.extend([] if follows and repeated else [heading])
        else:
            kept.extend(run)
        run = []
    return kept if len(run) >= MIN_CONTENTS_ENTRIES else kept + run
