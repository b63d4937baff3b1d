"""Detectors of personal data: patterns and checks on a window of bytes.

All patterns are bounded, so that no window costs more than a constant times its length. The
context of a match counts: a number that continues (``1.2.3.4.5``, ``12-345-...``), a word such as *version* before four dotted numbers, a label such as *Tel.* before a national number.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from types import MappingProxyType

from tasks.annotate.pii import candidate_scan
from tasks.annotate.pii.checksums import IBAN_LENGTHS, is_card, is_e164, is_iban

PiiSpan = tuple[str, int, int]  # kind, first byte and byte after the last, in the searched text

KINDS = ("email", "iban", "card", "ip", "phone")  # of overlapping spans the first kind is kept

_DOMAIN_LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(
    rb"(?<![A-Za-z0-9_])[A-Za-z0-9_](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_+-])?@"
    rb"(?:" + _DOMAIN_LABEL + rb"\.){1,8}(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,58})(?![A-Za-z0-9])"
)
# Names of files and programs that have the form of an address.
_FILE_EXTENSIONS = (
    b"png",
    b"jpg",
    b"jpeg",
    b"gif",
    b"svg",
    b"webp",
    b"css",
    b"js",
    b"json",
    b"html",
)
_SERVICE_ACCOUNTS = (b"git", b"hg", b"svn")

_OCTET = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rb"(?<![\w.-])(?<!\w/)" + _OCTET + rb"(?:\." + _OCTET + rb"){3}(?![\w-]|\.\w)")
_NUMBERING_LABEL = re.compile(
    rb"(?:\bv|\bver|\bversion|\brelease|\brev|\brevision|\bbuild|\bfirmware|\bsection|\bsect|\bsec"
    rb"|\bchapter|\bappendix|\bclause|\bparagraph|\btable|\bfigure|\bfig|\bstep|\xc2\xa7)"
    rb"s?[.:]? {0,2}$|\xc2\xa0$",
    re.IGNORECASE,
)
_HEADING = re.compile(rb"\.?(?: {2,}|\t+| )[A-Z]|\.(?: |\xc2\xa0)")
_MAX_SECTION_NUMBER = (
    30  # no document numbers its sections higher; most addresses have a higher part
)

_GROUP_SEPARATOR = rb"(?:[ .\-/]|\) ?|\)-| ?\()?"
_INTERNATIONAL = re.compile(rb"\+\(?[1-9](?:" + _GROUP_SEPARATOR + rb"\d){6,14}(?!\d)")
_NATIONAL = re.compile(
    # North America: (212) 555-0187, 212-555-0187, 1-212-555-0187, 212.555.0187
    rb"(?:1[ .-])?(?:\([2-9]\d\d\) ?\d{3}[ .-]\d{4}|[2-9]\d\d-\d{3}-\d{4}|[2-9]\d\d\.\d{3}\.\d{4})"
    # France and neighbours: 01 23 45 67 89
    rb"|0[1-9](?: \d\d){4}|0[1-9](?:\.\d\d){4}|0[1-9](?:-\d\d){4}"
    # Britain: 020 7946 0958, 0161 496 0000, 07700 900123
    rb"|0\d\d \d{4} \d{4}|0\d{3} \d{3} \d{4}|0\d{4} \d{6}"
    # Germany, Austria: 030/1234567, 0171-1234567
    rb"|0[1-9]\d{1,3}[/-] ?\d{5,8}"
)
_LABELED = re.compile(rb"\(?\d(?:" + _GROUP_SEPARATOR + rb"\d){6,14}(?!\d)")
_PHONE_LABEL = re.compile(
    rb"\b(?:tel|t\xc3\xa9l|tele|phone|telephone|telefon|telefono|tel\xc3\xa9fono|telefone"
    rb"|t\xc3\xa9l\xc3\xa9phone|fon|fax|telefax|mobile|mobil|mob|cell|handy|gsm|whatsapp|call)"
    rb"(?: (?:no|nr|number|us(?: at)?))?\.? ?[.:]? {0,2}\(?$",
    re.IGNORECASE,
)
_DATE = re.compile(rb"(?:19|20)\d\d[-/. ]\d\d?[-/. ]\d\d?")

_CARD = re.compile(
    rb"(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5}|\d{13,19})(?!\d)"
)
_IBAN = re.compile(rb"[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}")

_MIN_PHONE_DIGITS = 7  # digits of a labeled phone number

_CONTEXT_BEFORE = 24  # bytes of context that a check may read
_CONTEXT_AFTER = 8


def _is_delimited(text: bytes, start: int, end: int) -> bool:
    """Whether a number ends where the match does: no letter, digit or further group adjoins."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before and (before[-1:].isalnum() or before.endswith(b"_")):
        return False
    if len(before) == 2 and before[-1:] in b".,-/" and before[:1].isdigit():
        return False
    if after and (after[:1].isalnum() or after.startswith(b"_")):
        return False
    return not (len(after) == 2 and after[:1] in b".,-/" and after[1:].isdigit())


def _iter_number_ends(text: bytes, start: int, end: int) -> Iterator[int]:
    """Where a number in ``text[start:end]`` may end, so that no digits follow: the longest first."""
    for last in range(end, start, -1):
        if text[last - 1 : last].isdigit() and _is_delimited(text, start, last):
            yield last


def _extract_digits(match: bytes) -> str:
    return bytes(byte for byte in match if 0x30 <= byte <= 0x39).decode()


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast


def detect_emails(text: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    """Mail addresses with a full domain name (RFC 5321, without quoted and literal forms)."""
    for match in _EMAIL.finditer(text, start, end):
        local, _, domain = match.group().partition(b"@")
        ending = domain.rpartition(b".")[2].lower()
        if b".." not in local and ending not in _FILE_EXTENSIONS and local not in _SERVICE_ACCOUNTS:
            yield "email", match.start(), match.end()


def detect_ipv4(text: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    """Public IPv4 addresses that are not the number of a version or a section."""
    for match in _IPV4.finditer(text, start, min(len(text), end + 2)):
        parts = [int(part) for part in match.group().split(b".")]
        before = text[max(0, match.start() - _CONTEXT_BEFORE) : match.start()]
        if not _is_public(ipaddress.IPv4Address(match.group().decode())):
            continue
        if _NUMBERING_LABEL.search(before):
            continue
        opens_line = not before.rpartition(b"\n")[2].strip() and (
            b"\n" in before or match.start() == 0
        )
        if opens_line and max(parts) <= _MAX_SECTION_NUMBER and _HEADING.match(text, match.end()):
            continue
        yield "ip", match.start(), match.end()


def detect_ipv6(text: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    """Public IPv6 addresses of 2000::/3, the only space in use (IANA)."""
    candidate = text[start:end]
    if candidate.endswith(b":") and not candidate.endswith(b"::"):
        candidate = candidate[:-1]  # a colon of the sentence
    end = start + len(candidate)
    if text[end : end + 1].isalnum() or text[end : end + 1] == b"_":
        return
    try:
        address = ipaddress.IPv6Address(candidate.decode("ascii"))
    except ValueError:
        return
    if _is_public(address):
        yield "ip", start, end


def detect_cards(text: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    """Payment card numbers: issuer prefix, length, grouping and Luhn's check digit."""
    for match in _CARD.finditer(text, start, end):
        if _is_delimited(text, *match.span()) and is_card(_extract_digits(match.group())):
            yield "card", match.start(), match.end()


def detect_ibans(text: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    """International bank account numbers: the country's length and ISO 7064 modulo 97."""
    match = _IBAN.match(text, start, end)
    if not match:
        return
    expected = IBAN_LENGTHS.get(match.group()[:2].decode(), 0)
    n_characters = 0
    for at in range(*match.span()):
        n_characters += text[at] != 0x20
        if n_characters == expected:
            number = text[start : at + 1].replace(b" ", b"").decode()
            if not text[at + 1 : at + 2].isalnum() and is_iban(number):
                yield "iban", start, at + 1
            return


def detect_phones(text: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    """Phone numbers: international, in common national forms, or after a label ("Tel.")."""
    for match in _INTERNATIONAL.finditer(text, start, end):
        for last in _iter_number_ends(text, *match.span()):
            if is_e164(_extract_digits(text[match.start() : last])):
                yield "phone", match.start(), last
                break
    for match in _NATIONAL.finditer(text, start, end):
        plus = text[max(0, match.start() - 1) : match.start()] == b"+"
        if not plus and _is_delimited(text, *match.span()):
            yield "phone", match.start(), match.end()
    labeled = _LABELED.match(text, start, end)
    if labeled and _PHONE_LABEL.search(text[max(0, start - _CONTEXT_BEFORE) : start]):
        for last in _iter_number_ends(text, *labeled.span()):
            number = text[start:last]
            if len(_extract_digits(number)) >= _MIN_PHONE_DIGITS and not _DATE.search(number):
                yield "phone", start, last
                break


def _detect_numbers(text: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    yield from detect_cards(text, start, end)
    yield from detect_phones(text, start, end)


def _detect_dotted(text: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    yield from detect_ipv4(text, start, end)
    yield from _detect_numbers(text, start, end)


DETECTORS: MappingProxyType[int, Callable[[bytes, int, int], Iterator[PiiSpan]]] = MappingProxyType(
    {
        candidate_scan.EMAIL: detect_emails,
        candidate_scan.NUMBER: _detect_numbers,
        candidate_scan.DOTTED: _detect_dotted,
        candidate_scan.IBAN: detect_ibans,
        candidate_scan.IPV6: detect_ipv6,
    }
)


def detect(window_type: int, data: bytes, start: int, end: int) -> Iterator[PiiSpan]:
    """The personal data in a window.

    Args:
        window_type: a kind of window of `candidate_scan`.
        data: the document.
        start: first byte of the window.
        end: byte after its last.
    """
    origin = max(0, start - _CONTEXT_BEFORE)
    text = data[origin : end + _CONTEXT_AFTER]
    for kind, first, last in DETECTORS[window_type](text, start - origin, end - origin):
        yield kind, first + origin, last + origin
