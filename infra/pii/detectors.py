r"""Detectors of personal data: patterns and checks on a window of folded text.

All patterns are bounded, so that no window costs more than a constant times its length. The
context of a match counts: a number that continues (``1.2.3.4.5``, ``12-345-...``), a word such as
*version* before four dotted numbers, a label such as *Tel.* before a national number.

Digits, separators and Latin letters are ASCII here (`infra.pii.folding`); ``\w`` and ``\b``
mean ASCII, too, except in mail addresses.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from types import MappingProxyType

from infra.formats.unicode_tables import CJK_RANGES
from infra.pii import candidate_scan
from infra.pii.checksums import IBAN_LENGTHS, is_card, is_e164, is_iban
from infra.pii.folding import UNSPACED_RANGES, fold
from infra.pii.labels import IDN_TLDS, PHONE_LABELS, UNSPACED_PHONE_LABELS

PiiSpan = tuple[str, int, int]  # kind, first character and character after the last

KINDS = ("email", "iban", "card", "ip", "phone")  # of overlapping spans the first kind is kept


def _alternatives(words: tuple[str, ...]) -> str:
    return "|".join(sorted({re.escape(fold(word)[0]) for word in words}, key=len, reverse=True))


# Letters of scripts without spaces are no part of a mailbox name: they may be the sentence before it.
_UNSPACED = "".join(f"{chr(a)}-{chr(b)}" for a, b in (*CJK_RANGES, *UNSPACED_RANGES))
_LETTER = rf"[^\W_{_UNSPACED}]"
_ATOM = rf"(?:(?![{_UNSPACED}])[\w!#$%&'*+=^~-])"
_LOCAL_PART = rf"(?<!{_LETTER})(?P<local>{_LETTER}{_ATOM}{{0,63}}(?:\.{{1,2}}{_ATOM}{{1,63}}){{0,31}}\.{{0,2}})"
_GROUP = r"(?P<group>\"[^\"\n]{1,100}\"|\{[^{}\n]{1,100}\})"  # "anna k"@..., {anna,bob}@...
_DOMAIN_LABEL = r"[^\W_](?:(?:[^\W_]|-){0,61}[^\W_])?"


@cache
def _email() -> re.Pattern[str]:
    """Return the pattern of a mail address.

    It and the labels need a table of all characters, which takes a third of a second to make: too long
    for every process that imports this module.
    """
    return re.compile(
        rf"(?:{_LOCAL_PART}|{_GROUP})(?:@|%40)(?P<domain>(?:{_DOMAIN_LABEL}\.){{1,8}}"
        rf"(?P<ending>xn--[A-Za-z0-9-]{{2,58}}|[A-Za-z]{{2,24}}|{_alternatives(IDN_TLDS)}))(?!-?[A-Za-z0-9])"
    )


# Names of files and programs that have the form of an address.
_FILE_EXTENSIONS = frozenset(
    "png jpg jpeg gif svg webp avif ico bmp pdf css js json html service socket timer mount slice".split()
)
_SERVICE_ACCOUNTS = ("git", "hg", "svn")
# An equals sign is part of a name in addresses for bounces (VERP, SRS, BATV), else it precedes one.
_BOUNCE = re.compile(r"[^=]*\+|(?:SRS[01]|prvs|btv1)=|(?:bounces?|return|owner)-", re.IGNORECASE)
# The first word of the next sentence, where no space follows the full stop.
_NEXT_SENTENCE = re.compile(r"\.[a-z]{2,}(\.[A-Z][a-z]+)$")

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(
    r"(?<![\w.-])(?<!\w/)" + _OCTET + r"(?:\." + _OCTET + r"){3}(?![\w-]|\.\w)", re.ASCII
)
_NUMBERING_LABEL = re.compile(
    r"(?:\bv|\bver|\bversion|\brelease|\brev|\brevision|\bbuild|\bfirmware|\bsection|\bsect|\bsec"
    r"|\bchapter|\bappendix|\bclause|\bparagraph|\btable|\bfigure|\bfig|\bstep|§)"
    r"s?[.:]? {0,2}$",
    re.IGNORECASE | re.ASCII,
)
_HEADING = re.compile(r"\.?(?: +|\t+)[A-Z]|\. ")
# No document numbers its sections higher; most addresses have a higher part.
_MAX_SECTION_NUMBER = 30

_GROUP_SEPARATOR = r"(?: [\-/] |[ .\-/]|\) ?|\)-|[ -]?\()?"  # 030 - 123, (030) 123, +49-(0)30
_INTERNATIONAL = re.compile(
    # +44 20 7946 0958, and 0044 20 7946 0958 in groups
    rf"(?:\+\(?|(?<!\d)(?<!\d )00(?=[1-9]\d{{0,2}}[ .\-/](?:\(0?\)? ?)?[1-9]))[1-9](?:{_GROUP_SEPARATOR}\d){{6,14}}(?!\d)",
    re.ASCII,
)
_NATIONAL = re.compile(
    # North America: (212) 555-0187, 212-555-0187, 1-212-555-0187, 212.555.0187
    r"(?:1[ .-])?(?:\([2-9]\d\d\) ?\d{3}[ .-]\d{4}|[2-9]\d\d-\d{3}-\d{4}|[2-9]\d\d\.\d{3}\.\d{4})"
    # France and neighbors: 01 23 45 67 89
    r"|0[1-9](?: \d\d){4}|0[1-9](?:\.\d\d){4}|0[1-9](?:-\d\d){4}"
    # Britain: 020 7946 0958, 0161 496 0000, 07700 900123
    r"|0\d\d \d{4} \d{4}|0\d{3} \d{3} \d{4}|0\d{4} \d{6}"
    # Germany, Austria: 030/1234567, 0171-1234567; Israel, the Netherlands: 03-1234567, 06-12345678
    r"|0[1-9]\d{1,3}[/-] ?\d{5,8}|0[1-9]-\d{7,8}"
    # an area code in parentheses: (030) 123 45 67, (02) 9374 4000
    r"|\(0[1-9]\d{0,4}\) ?\d(?:[ -]?\d){5,8}"
    # Sweden: 08-123 456 78
    r"|0[1-9]\d{0,2}-\d{2,3}(?: \d{2,3}){2}"
    # Russia: 8 (495) 123-45-67, 8-800-555-35-35
    r"|8[ -]?\(\d{3,5}\) ?\d{1,3}[ -]\d\d[ -]\d\d|8-\d{3}-\d{3}-\d\d-\d\d|8 \d{3} \d{3}-\d\d-\d\d|8 800 \d{3} \d\d \d\d"
    # Turkey: 0(212) 123 45 67, 0212 123 45 67
    r"|0(?: ?\([2-5]\d\d\) ?|[2-5]\d\d )\d{3} \d\d \d\d"
    # Japan, Korea: 03-1234-5678, 045-123-4567, 090-1234-5678, 0120-123-456
    r"|0[1-9]-\d{4}-\d{4}|0[1-9]\d-\d{3,4}-\d{4}|0[1-9]\d\d-(?:\d\d-\d{4}|\d{3}-\d{3})"
    # Brazil: (11) 91234-5678, (11) 3123-4567, but not (12) 2019-2020
    r"|\([1-9]\d\) ?(?:9\d{4}|(?!20)[2-5]\d{3})-\d{4}"
    # India: 098765 43210
    r"|0[6-9]\d{4} \d{5}",
    re.ASCII,
)
_PAIRS = re.compile(r"\d\d(?:[ .-]\d\d)+")
_MAX_LIST_STEP = 10  # 01 02 03 04 05 counts, and so does 05 15 25 35 45
_LABELED = re.compile(rf"\(?\d(?:{_GROUP_SEPARATOR}\d){{6,14}}(?!\d)", re.ASCII)
_EXTENSION = re.compile(r"[xX]\d")  # 212-555-0187x12
_LAST_WORD = re.compile(r"[^\W\d_]+\Z")
_LABEL_SUFFIXES = ("no", "nr", "number", "us", "us at")  # call us at ...
_AFTER_LABEL = " .:;=|('\u05f3\"#-\t\n"  # what may stand between a label and its number
_PHONE_SIGN = re.compile(
    "[\u260e\u260f\u2706\U0001f4de-\U0001f4e0\U0001f4f1\U0001f4f2\U0001f57b-\U0001f57f]\\Z"
)
# T: 030 1234567, as in signatures: other numbers stand behind letters, too.
_INITIAL = re.compile(r"(?<![\w.])[TMFP][.:] ?\Z")
_AREA_CODE = re.compile(r"\(?0\d")
_DATE = re.compile(
    r"(?:19|20)\d\d[-/. ]\d\d?[-/. ]\d\d?|(?<!\d)\d\d?([-/.])\d\d?\1(?:19|20)\d\d(?!\d)"
    r"|\A(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d\Z"  # 2019-2020
)

_CARD_SEPARATORS = (" {1,2}", "-", r"\.", "/", " - ")  # one of them in all of a number
_CARD = re.compile(
    "|".join(
        rf"\d{{4}}{mark}\d{{4}}{mark}\d{{4}}{mark}\d{{4}}(?:{mark}\d{{3}})?(?!\d)"
        rf"|\d{{4}}{mark}\d{{6}}{mark}\d{{4,5}}(?!\d)"
        for mark in _CARD_SEPARATORS
    )
    + r"|\d{13,19}(?!\d)"
)
_COLUMN_BEFORE, _COLUMN_AFTER = re.compile(r"\d{4}  \Z"), re.compile(r"  \d{4}(?!\d)")
# DE89 3704 ..., and PL 61 1090 ... with a space behind the country.
_IBAN = re.compile(r"[A-Za-z]{2} ?\d\d(?:[ .-]{0,2}[A-Za-z0-9]){11,30}")

_MIN_PHONE_DIGITS = 7  # digits of a labeled phone number
_MIN_DIGITS_AFTER_00 = 10  # digits of an international number without "+"

_CONTEXT_BEFORE = 24  # characters of context that a check may read
_CONTEXT_AFTER = 8


@cache
def _labels() -> frozenset[str]:
    return frozenset(fold(label)[0] for label in PHONE_LABELS)


@cache
def _unspaced_labels() -> tuple[str, ...]:
    return tuple(fold(label)[0] for label in UNSPACED_PHONE_LABELS)


def _is_alnum(char: str) -> bool:
    return char.isascii() and char.isalnum()


def _is_delimited(text: str, start: int, end: int) -> bool:
    """Whether a number ends where the match does: no letter, digit or further group adjoins."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before and (_is_alnum(before[-1]) or before.endswith("_")):
        return False
    if len(before) == 2 and before[-1] in ".,-/" and before[0].isdigit():
        return False
    if after and (_is_alnum(after[0]) or after.startswith("_")) and not _EXTENSION.match(after):
        return False
    return not (len(after) == 2 and after[0] in ".,-/" and after[1].isdigit())


def _iter_number_ends(text: str, start: int, end: int) -> Iterator[int]:
    """Where a number in ``text[start:end]`` may end, so that no digits follow: the longest first."""
    for last in range(end, start, -1):
        if text[last - 1].isdigit() and _is_delimited(text, start, last):
            yield last


def _extract_digits(match: str) -> str:
    return "".join(char for char in match if char.isdigit())


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast


def detect_emails(text: str, start: int, end: int) -> Iterator[PiiSpan]:
    """Mail addresses with a full domain name, internationalized ones too (RFC 5321, RFC 6531).

    Without address literals and comments. Several names for one domain count as one address.
    """
    for match in _email().finditer(text, start, end):
        if match["ending"].lower() in _FILE_EXTENSIONS or match["local"] in _SERVICE_ACCOUNTS:
            continue
        first, last = match.span()
        local = match["local"] or ""
        quoted = text[last : last + 1] == "'" != text[first - 1 : first]  # u'anna@example.org'
        if "=" in local and not _BOUNCE.match(local):
            first += local.rindex("=") + 1
        elif quoted and "'" in local:
            first += local.rindex("'") + 1
        if local:
            while first < match.end("local") and not text[first].isalnum():
                first += 1
        sentence = _NEXT_SENTENCE.search(match["domain"])
        if sentence:
            last -= len(sentence[1])
        if first < match.end("local") or not local:
            yield "email", first, last


def detect_ipv4(text: str, start: int, end: int) -> Iterator[PiiSpan]:
    """Public IPv4 addresses that are not the number of a version or a section."""
    for match in _IPV4.finditer(text, start, min(len(text), end + 2)):
        parts = [int(part) for part in match.group().split(".")]
        before = text[max(0, match.start() - _CONTEXT_BEFORE) : match.start()]
        if not _is_public(ipaddress.IPv4Address(match.group())):
            continue
        if _NUMBERING_LABEL.search(before):
            continue
        opens_line = not before.rpartition("\n")[2].strip() and (
            "\n" in before or match.start() == 0
        )
        if opens_line and max(parts) <= _MAX_SECTION_NUMBER and _HEADING.match(text, match.end()):
            continue
        yield "ip", match.start(), match.end()


def detect_ipv6(text: str, start: int, end: int) -> Iterator[PiiSpan]:
    """Public IPv6 addresses of 2000::/3, the only space in use (IANA)."""
    candidate = text[start:end]
    if candidate.endswith(":") and not candidate.endswith("::"):
        candidate = candidate[:-1]  # a colon of the sentence
    end = start + len(candidate)
    after = text[end : end + 1]
    if _is_alnum(after) or after == "_":
        return
    try:
        address = ipaddress.IPv6Address(candidate)
    except ValueError:
        return
    if _is_public(address):
        yield "ip", start, end


def detect_cards(text: str, start: int, end: int) -> Iterator[PiiSpan]:
    """Payment card numbers: issuer prefix, length, grouping and Luhn's check digit."""
    for match in _CARD.finditer(text, start, end):
        first, last = match.span()
        is_row = "  " in match.group() and (
            _COLUMN_BEFORE.search(text[max(0, first - 6) : first])
            or _COLUMN_AFTER.match(text, last)
        )
        if (
            not is_row
            and _is_delimited(text, first, last)
            and is_card(_extract_digits(match.group()))
        ):
            yield "card", first, last


def detect_ibans(text: str, start: int, end: int) -> Iterator[PiiSpan]:
    """International bank account numbers: the country's length and ISO 7064 modulo 97."""
    match = _IBAN.match(text, start, end)
    if not match:
        return
    expected = IBAN_LENGTHS.get(match.group()[:2].upper(), 0)
    number = ""
    for at in range(*match.span()):
        number += text[at].upper() if text[at] not in " .-" else ""
        if len(number) == expected:
            written = text[start : at + 1]
            one_case = written.isupper() or written.islower()
            if one_case and not _is_alnum(text[at + 1 : at + 2]) and is_iban(number):
                yield "iban", start, at + 1
            return


def _counts_up(number: str) -> bool:
    """Whether a number in pairs of digits is a list of numbers, such as 01 02 03 04 05."""
    pairs = [int(pair) for pair in re.findall(r"\d\d", number)]
    steps = {after - before for before, after in pairwise(pairs)}
    return len(steps) == 1 and abs(steps.pop()) <= _MAX_LIST_STEP


def _ends_in_phone_label(text: str) -> bool:
    label = text.rstrip(_AFTER_LABEL)
    if text.count("\n", len(label)) > 1:  # another paragraph
        return False
    text = label.lower()
    for suffix in _LABEL_SUFFIXES:
        text = text.removesuffix(f" {suffix}").rstrip(" .")
    if _PHONE_SIGN.search(text):
        return True
    word = _LAST_WORD.search(text)
    return word is not None and (
        word.group() in _labels() or word.group().endswith(_unspaced_labels())
    )


def detect_phones(text: str, start: int, end: int) -> Iterator[PiiSpan]:
    """Phone numbers: international, in common national forms, or after a label ("Tel.")."""
    for match in _INTERNATIONAL.finditer(text, start, end):
        for last in _iter_number_ends(text, *match.span()):
            digits = _extract_digits(text[match.start() : last])
            number = digits.removeprefix("00")
            if is_e164(number) and (number == digits or len(number) >= _MIN_DIGITS_AFTER_00):
                yield "phone", match.start(), last
                break
    labeled = _LABELED.match(text, start, end)
    before = text[max(0, start - _CONTEXT_BEFORE) : start]
    is_labeled = labeled and (
        _ends_in_phone_label(before)
        or (_INITIAL.search(before) and _AREA_CODE.match(labeled.group()))
    )
    for match in _NATIONAL.finditer(text, start, end):
        plus = text[max(0, match.start() - 1) : match.start()] == "+"
        listed = not is_labeled and _PAIRS.fullmatch(match.group()) and _counts_up(match.group())
        if not plus and not listed and _is_delimited(text, *match.span()):
            yield "phone", match.start(), match.end()
    if labeled and is_labeled:
        for last in _iter_number_ends(text, *labeled.span()):
            number = text[start:last]
            if len(_extract_digits(number)) >= _MIN_PHONE_DIGITS and not _DATE.search(number):
                yield "phone", start, last
                break


def _detect_numbers(text: str, start: int, end: int) -> Iterator[PiiSpan]:
    yield from detect_cards(text, start, end)
    yield from detect_phones(text, start, end)


def _detect_dotted(text: str, start: int, end: int) -> Iterator[PiiSpan]:
    yield from detect_ipv4(text, start, end)
    yield from _detect_numbers(text, start, end)


DETECTORS: MappingProxyType[int, Callable[[str, int, int], Iterator[PiiSpan]]] = MappingProxyType(
    {
        candidate_scan.EMAIL: detect_emails,
        candidate_scan.NUMBER: _detect_numbers,
        candidate_scan.DOTTED: _detect_dotted,
        candidate_scan.IBAN: detect_ibans,
        candidate_scan.IPV6: detect_ipv6,
    }
)


def detect(window_type: int, data: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    """Yield the personal data in a window; offsets are in characters from its first byte.

    Args:
        window_type: a kind of window of `candidate_scan`.
        data: the document.
        start: first byte of the window.
        end: byte after its last.
    """
    origin = max(0, start - _CONTEXT_BEFORE)
    piece = data[origin : end + _CONTEXT_AFTER]
    if piece.isascii():
        text, first, last = piece.decode(), start - origin, end - origin
        for kind, begin, stop in DETECTORS[window_type](text, first, last):
            yield kind, begin - first, stop - first
        return
    before = data[max(0, start - 4 * _CONTEXT_BEFORE) : start].decode(errors="ignore")
    before = before[-_CONTEXT_BEFORE:]
    after = data[end : end + 4 * _CONTEXT_AFTER].decode(errors="ignore")[:_CONTEXT_AFTER]
    text, positions = fold(before + data[start:end].decode() + after)
    first, last = len(fold(before)[0]), len(text) - len(fold(after)[0])
    for kind, begin, stop in DETECTORS[window_type](text, first, last):
        yield kind, positions[begin] - len(before), positions[stop - 1] + 1 - len(before)
