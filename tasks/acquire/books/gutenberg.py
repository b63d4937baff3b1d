"""Project Gutenberg's header, footer and credits: their metadata, and the text without them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

# Lines from a header's first line within which its end mark must come (the longest are ~300).
MAX_HEADER_LINES = 600

# A header without an end mark has its fields within this many lines.
MAX_UNMARKED_HEADER_LINES = 80

# ... with at most this many paragraphs of other text between them.
MAX_HEADER_GAP_PARAGRAPHS = 6

# Its first paragraph, the title, has at most this many.
MAX_TITLE_LINES = 12

# The paragraph of an end mark without stars has at most this many lines ...
MAX_END_LINES = 3

# ... follows a blank line or one as short as "THE END" ...
MAX_LINE_BEFORE_END = 30

# ... and within this many lines after it is a license, another header, or nothing more.
MAX_FOOTER_GAP_LINES = 40

_NAME = r"(?:the\s+|this\s+)?(?:copyrighted\s+)?project\s+gutenberg"
_CUES = (
    "gutenberg", "small print", "full license", "dieses etext", "this file should be named",
    "updated editions will",
)  # fmt: skip
_START = re.compile(rf"\s*\*{{2,}}\s*start\s+of\s+{_NAME}", re.I)
_SMALL_PRINT_START = re.compile(r"\s*\*+\s*START\s*\*+\s*THE SMALL PRINT", re.I)
_SMALL_PRINT_END = re.compile(r"\s*\*+\s*END\s*\*?\s*THE SMALL PRINT", re.I)
_STARRED_END = re.compile(rf"\s*\*{{2,}}\s*(?:end\s+of\s+{_NAME}|END:\s*FULL\s+LICENSE)", re.I)
# "End of Project Gutenberg's X", "Ende dieses Projekt Gutenberg Etextes", "Fin de ce Projet Gutenberg".
_END = re.compile(
    rf"\s*(?:[*_\[(]+\s*)?(?:"
    rf"(?:(?:this\s+is\s+)?the\s+)?end\s+of\s+{_NAME}(?:['’]s\b|(?:-?tm)?(?:['’]s)?\s+(?:e-?books?|e-?texts?|edition|text)\b)"
    rf"|ende\s+dieses\s+e-?text(?:es)?\b|this\s+is\s+a\s+copyrighted\s+{_NAME}\s+e-?(?:text|book)\b"
    rf"|(?:end|ende|fin|fine|fim|einde|slut|slutet)\s+(?:[\w'’]+\s+){{0,4}}?"
    rf"(?:projekt|projet|proyecto|progetto|proje[ck]?to|project)\s+gutenberg)",
    re.I,
)
_FOOTER = re.compile(
    r"gutenberg|small print|\be-?(?:text|book)s?\b|this file should be named|full license", re.I
)
# How footers go on, whatever language their end mark is in, if there is one.
_FOOTER_START = re.compile(
    r"\s*\**\s*(?:this file should be named\s|updated editions will replace the previous one"
    r"|start:\s+full\s+license)",
    re.I,
)
_HEADER = re.compile(
    rf"\s*\**\s*(?:(?:a\s+)?{_NAME}\s+(?:of\s+australia\s+)?(?:e-?book|e-?text|etext|edition)\b|project\s+gutenberg['’]s\s)",
    re.I,
)
_TITLE_LINE = re.compile(
    r"\s*\**\s*(?:the\s+)?project\s+gutenberg(?:['’]s|\s+e-?(?:book|text)\s+of)\s+"
    r"(?:e-?(?:book|text)\s+of\s+)?(?P<title>.+?)(?:,?\s+by\s+(?P<author>[^*]+?))?\s*\**\s*",
    re.I,
)
_FIELD = re.compile(r"\s*\[?(?P<key>[A-Z][A-Za-z ]{2,24}):[ \t]*(?P<value>\S.*)?")
_HEADER_FIELDS = frozenset(
    ("title", "author", "translator", "editor", "illustrator", "release date", "posting date",
     "first posted", "last updated", "edition", "language", "character set encoding")
)  # fmt: skip
_CREDIT = re.compile(
    r"\s*\[?\s*(?:this\s+|these\s+)?(?:project gutenberg\s+)?(?:e-?texts?|e-?books?)?\s*"
    r"(?:was\s+|were\s+)?(?:first\s+)?"
    r"(?:produced|prepared|scanned|transcribed|digiti[sz]ed|typed|created|proofread)"
    r"(?:\s+and\s+\w+)*\s+(?:by|from|in)\b"
    r"|\s*(?:credits|html version by|character set for html)\s*:?"
    r"|\s*note:\s+(?:project gutenberg also has|images of the original pages are available)"
    r"|\s*this e-?(?:text|book) is in \w+\.?\s*$|\s*we are releasing two versions of this",
    re.I,
)
# Paragraphs at the start of the body among which credits ("Produced by ...") are searched for.
CREDIT_BLOCKS = 3

# ISO 639-1 codes of the language names that Gutenberg headers use.
LANGUAGE_CODES = {
    "afrikaans": "af", "arabic": "ar", "bulgarian": "bg", "catalan": "ca", "chinese": "zh",
    "czech": "cs", "danish": "da", "dutch": "nl", "english": "en", "esperanto": "eo",
    "estonian": "et", "finnish": "fi", "french": "fr", "frisian": "fy", "galician": "gl",
    "german": "de", "greek": "el", "hebrew": "he", "hungarian": "hu", "icelandic": "is",
    "irish": "ga", "italian": "it", "japanese": "ja", "korean": "ko", "latin": "la",
    "norwegian": "no", "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru",
    "serbian": "sr", "slovenian": "sl", "spanish": "es", "swedish": "sv", "tagalog": "tl",
    "telugu": "te", "turkish": "tr", "ukrainian": "uk", "welsh": "cy", "yiddish": "yi",
}  # fmt: skip

_MONTHS = {
    name: number
    for number, names in enumerate(
        ("jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july",
         "aug august", "sep sept september", "oct october", "nov november", "dec december"),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_DATE = re.compile(r"\s*([A-Za-z]{3,9})\.?,?\s+(?:(\d{1,2})(?:st|nd|rd|th)?,?\s+)?(\d{4})\b")
_OLD_DATE = re.compile(r"\s*([A-Z][a-z]{2,8}),?\s+(\d{4})\s+\[E-?(?:text|book) ", re.I)


@dataclass(frozen=True)
class Header:
    """The metadata of a Gutenberg header; a field that is not given is ``None`` or empty.

    Attributes:
        title: the book's title.
        authors: as "First Last", in the header's order.
        date: the release date, ISO 8601, as precise as given.
        language: ISO 639-1 code of the (first) language.
    """

    title: str | None = None
    authors: tuple[str, ...] = ()
    date: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class StrippedText:
    """The lines of a book without Project Gutenberg's additions.

    Attributes:
        spans: half-open ranges of line numbers, ascending; several where a file contains several
            works, each with a header of its own.
        header: the metadata of the first header.
        has_boilerplate: whether anything was removed.
    """

    spans: list[tuple[int, int]]
    header: Header = field(default_factory=Header)
    has_boilerplate: bool = False


def strip_boilerplate(lines: Sequence[str]) -> StrippedText:
    """Find a book's own lines among Gutenberg's headers, licenses, footers and credits.

    All styles since 1991 are known: ``*** START OF THE/THIS PROJECT GUTENBERG EBOOK``, the small
    print that ends with ``*END*THE SMALL PRINT``, ``End of (The) Project Gutenberg's``. A file
    without any of them is left as it is, but for a credit line at its start.
    """
    spans: list[tuple[int, int]] = []
    first_body: int | None = None
    begin: int | None = 0 if not _starts_with_header(lines) else None
    headers_since_end = begin is None
    if begin == 0 and (unmarked := _unmarked_header_end(lines)):
        begin = first_body = unmarked
    for number, line in enumerate(lines):
        lower = line.lower()
        if not any(cue in lower for cue in _CUES):  # nearly every line; avoids five patterns
            continue
        if _START.match(line):
            # Inside a body it ends a header without a known start mark.
            if begin is not None and number - begin > MAX_HEADER_LINES:
                spans.append((begin, number))
            begin = _line_after_marker(lines, number)
            first_body = number if first_body is None else first_body
        elif _SMALL_PRINT_END.match(line) and (headers_since_end or not spans):
            if begin is None or number < MAX_HEADER_LINES:
                begin = number + 1
                headers_since_end = False
                first_body = number if first_body is None else first_body
        elif begin is not None and (end := _body_end(lines, begin, number)) is not None:
            spans.append((begin, end))
            begin = None
            headers_since_end = False
        elif begin is None and _HEADER.match(line):
            headers_since_end = True
    if begin is not None:
        spans.append((begin, len(lines)))
    elif not spans:  # a header without an end: keep its lines rather than lose the book
        spans.append((0, len(lines)))
    has_boilerplate = first_body is not None or spans != [(0, len(lines))]
    trimmed = [_skip_credits(lines, start, end) for start, end in spans]
    header = _read_header(lines[: first_body or 0]) if has_boilerplate else Header()
    return StrippedText([span for span in trimmed if span[0] < span[1]], header, has_boilerplate)


def _starts_with_header(lines: Sequence[str]) -> bool:
    """Whether the file begins with a header whose end is marked later."""
    top = [line for line in lines[:40] if line.strip()][:6]
    if not any(_HEADER.match(line) for line in top):
        return False
    for number, line in enumerate(lines[:MAX_HEADER_LINES]):
        if _START.match(line) or _SMALL_PRINT_END.match(line):
            return _is_followed_by_text(lines, number)
        if _is_end(lines, number):  # a short book whose small print was moved to the end
            return False
    return False


def _is_followed_by_text(lines: Sequence[str], number: int) -> bool:
    """Whether lines that are not of a footer follow."""
    return any(line.strip() and not _FOOTER.search(line) for line in lines[number + 1 :])


def _body_end(lines: Sequence[str], begin: int, number: int) -> int | None:
    """Where the body that begins at `begin` ends if `number` is the first line of what follows it."""
    if _is_end(lines, number):
        return number
    if _SMALL_PRINT_START.match(lines[number]):
        ends = (n for n in range(number, len(lines)) if _SMALL_PRINT_END.match(lines[n]))
        last = next(ends, None)
        is_moved = last is not None and not _is_followed_by_text(lines, last)
        return number if is_moved else None
    if not _FOOTER_START.match(lines[number]) or (number and lines[number - 1].strip()):
        return None
    # An end mark in a language that is not known is the paragraph before.
    end = number
    while end > begin and not lines[end - 1].strip():
        end -= 1
    start = end
    while start > begin and lines[start - 1].strip():
        start -= 1
    is_mark = end - start <= MAX_END_LINES and any(
        "gutenberg" in line.lower() for line in lines[start:end]
    )
    return start if is_mark else end


def _is_end(lines: Sequence[str], number: int) -> bool:
    """Whether a line ends a work: with stars, or as a short paragraph that a footer follows."""
    has_stars = _STARRED_END.match(lines[number]) is not None
    inside = number > 0 and len(lines[number - 1].strip()) > MAX_LINE_BEFORE_END
    if not has_stars and (inside or not _END.match(lines[number])):
        return False
    after = number
    while after < len(lines) and lines[after].strip():
        after += 1
    if not has_stars and after - number > MAX_END_LINES:
        return False
    following = [line for line in lines[after:] if line.strip()]
    near = following if has_stars else following[: MAX_FOOTER_GAP_LINES + 1]
    for index, line in enumerate(near):
        if _STARRED_END.match(line) or _END.match(line):  # text between two marks is the book's
            return all(map(_FOOTER.search, following[:index]))
        if _HEADER.match(line) or _START.match(line) or (has_stars and _FOOTER_START.match(line)):
            return True
    return has_stars or len(near) <= MAX_FOOTER_GAP_LINES or any(map(_FOOTER.search, near))


def _unmarked_header_end(lines: Sequence[str]) -> int:
    """The line after a header whose end is not marked, or 0 without one.

    It is a title ("The Project Gutenberg Etext of ..."), and what is before its last paragraph of fields
    ("Author: ...") or about Project Gutenberg.
    """
    start = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if start == len(lines) or not _HEADER.match(lines[start]):
        return 0
    end = position = start
    gap = 0
    while position < min(len(lines), MAX_UNMARKED_HEADER_LINES):
        paragraph_end = position
        while paragraph_end < len(lines) and lines[paragraph_end].strip():
            paragraph_end += 1
        paragraph = lines[position:paragraph_end]
        if position == start and len(paragraph) > MAX_TITLE_LINES:
            return 0
        gap += 1
        if gap > MAX_HEADER_GAP_PARAGRAPHS or _body_end(lines, end, position) is not None:
            break
        fields = [match for line in paragraph if (match := _FIELD.fullmatch(line.rstrip()))]
        is_field = any(match["key"].lower().strip() in _HEADER_FIELDS for match in fields)
        about = any(_FOOTER.search(line) for line in paragraph)
        if paragraph and (is_field or about or position == start):
            end, gap = paragraph_end, 0
        position = paragraph_end + 1
    return end


def _line_after_marker(lines: Sequence[str], number: int) -> int:
    """The line after a start mark, which may run over several lines up to its closing stars."""
    if "***" in lines[number].strip().lstrip("* "):
        return number + 1
    for end in range(number + 1, min(number + 5, len(lines))):
        if not lines[end].strip():
            break
        if lines[end].rstrip().endswith("***"):
            return end + 1
    return number + 1


def _skip_credits(lines: Sequence[str], start: int, end: int) -> tuple[int, int]:
    """Move a span's start past "Produced by ..." paragraphs near it."""
    position, kept = start, start
    for _ in range(CREDIT_BLOCKS):
        while position < end and not lines[position].strip():
            position += 1
        block = position
        while position < end and lines[position].strip():
            position += 1
        # Only paragraphs before the book's own text are removed: title pages come after credits.
        if block < position and _CREDIT.match(lines[block]) and position - block <= 12:
            kept = position
        elif block < position:
            break
    return kept, end


def _read_header(lines: Sequence[str]) -> Header:
    fields: dict[str, str] = {}
    authors: list[str] = []
    key = ""
    title_line: re.Match[str] | None = None
    old_date: str | None = None
    for line in lines:
        match = _FIELD.fullmatch(line.rstrip())
        if match:
            key = match["key"].lower().strip()
            value = (match["value"] or "").strip()
            if key == "author" and value:
                authors.append(value)
            fields.setdefault(key, value)
        elif line.strip() and line[:1].isspace() and key == "title":
            fields[key] += " " + line.strip()  # a title's further lines are indented
        elif not line.strip():
            key = ""
        if title_line is None and _HEADER.match(line):
            title_line = _TITLE_LINE.fullmatch(line.rstrip())
        old = _OLD_DATE.match(line)
        if old_date is None and old:
            old_date = _parse_date(f"{old[1]} {old[2]}")
    title = fields.get("title") or (title_line["title"] if title_line else None)
    if not authors and title_line and title_line["author"]:
        authors.append(title_line["author"].strip())
    date = next(
        (
            iso
            for name in ("release date", "posting date", "first posted")
            if (iso := _parse_date(fields.get(name, "")))
        ),
        old_date,
    )
    names = re.split(r"[,;/]| and ", fields.get("language", "").lower())
    language = LANGUAGE_CODES.get(names[0].strip())
    return Header(" ".join(title.split()) if title else None, tuple(authors), date, language)


def _parse_date(text: str) -> str | None:
    """Read a date: "June 25, 2008", "June, 2001" or "2008-06-25" at its start; as ISO 8601."""
    ready = re.match(r"\s*(\d{4}-\d\d-\d\d)\b", text)
    if ready:
        return ready[1]
    match = _DATE.match(text)
    month = _MONTHS.get(match[1].lower()) if match else None
    if not match or month is None:
        return None
    day = int(match[2]) if match[2] else None
    if day is not None and not 1 <= day <= 31:
        return None
    return f"{match[3]}-{month:02d}" + (f"-{day:02d}" if day else "")
