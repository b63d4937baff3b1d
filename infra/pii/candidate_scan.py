"""A compiled scan that proposes windows of bytes which may contain personal data.

It reads characters as `infra.pii.folding` folds them.
"""

from infra.compute.arrays import I64, U8
from infra.compute.jit import jit, jit_inline
from infra.formats.arrow_text import Bytes, Offsets
from infra.formats.unicode_tables import decode_utf8
from infra.pii.folding import IGNORED, LETTER, UNSPACED

# Kinds of window.
EMAIL, NUMBER, DOTTED, IBAN, IPV6 = range(5)

MAX_LOCAL_PART = 64  # characters of a mailbox name (RFC 5321, 4.5.3.1.1)
MAX_GROUP = 100  # characters between braces or quotes before an @
MAX_DOMAIN = 253  # characters of a domain name (RFC 1035, 2.3.4)
MIN_IBAN_CHARS, MAX_IBAN_CHARS = 15, 34
MAX_IPV6_SPAN = 40  # 39 characters, and the one after the end
MIN_PHONE_DIGITS = 7  # of a phone number
MIN_IPV4_DIGITS = 4  # digits of an IPv4 address


@jit_inline
def _next(data: Bytes, i: int, table: U8) -> tuple[int, int]:
    """Return the folded character at byte ``i``, and where the next one starts."""
    if data[i] < 0x80:
        return int(data[i]), i + 1
    point, after = decode_utf8(data, i)
    return int(table[point]), after


@jit
def _previous(data: Bytes, i: int, table: U8) -> tuple[int, int]:
    """Return the folded character that ends before byte ``i``, and where it starts."""
    i -= 1
    if data[i] < 0x80:
        return int(data[i]), i
    while (data[i] & 0xC0) == 0x80:
        i -= 1
    point, _ = decode_utf8(data, i)
    return int(table[point]), i


@jit_inline
def _is_digit(char: int) -> bool:
    return 0x30 <= char <= 0x39


@jit_inline
def _is_capital(char: int) -> bool:
    return 0x41 <= char <= 0x5A


@jit_inline
def _is_alpha(char: int) -> bool:
    return _is_capital(char) or 0x61 <= char <= 0x7A


@jit_inline
def _is_alnum(char: int) -> bool:
    return _is_digit(char) or _is_alpha(char)


@jit_inline
def _is_hex(char: int) -> bool:
    return _is_digit(char) or 0x41 <= char <= 0x46 or 0x61 <= char <= 0x66


@jit_inline
def _is_local_part_char(char: int) -> bool:
    # RFC 5322, atext, but for those that delimit an address in text: / = ? ` { | }
    return (
        _is_alnum(char)
        or char in (LETTER, IGNORED)
        or (0x23 <= char <= 0x27)  # # $ % & '
        or char in (0x21, 0x2A, 0x2B, 0x2D, 0x2E, 0x3D, 0x5E, 0x5F, 0x7E)  # ! * + - . = ^ _ ~
    )


@jit_inline
def _is_separator(char: int) -> bool:
    return char in (0x20, 0x2E, 0x2D, 0x28, 0x29, 0x2F)  # space . - ( ) /


@jit
def _local_part_start(data: Bytes, start: int, at: int, table: U8) -> int:
    """Return where the mailbox name, or the group or quotation, that ends at byte ``at`` may start."""
    first = at
    length = 0
    closing = 0
    while first > start and length <= MAX_LOCAL_PART:
        char, before = _previous(data, first, table)
        if length == 0 and char in (0x22, 0x7D):  # " }
            closing = 0x7B if char == 0x7D else 0x22
            first = before
            break
        if not _is_local_part_char(char):
            return first
        first = before
        length += 1
    if closing:
        while first > start and length <= MAX_GROUP:
            char, first = _previous(data, first, table)
            length += 1
            if char == closing:
                return first
        return at
    return first


@jit
def _domain_end(data: Bytes, i: int, end: int, table: U8) -> int:
    """Return the end of the domain name that starts at byte ``i``; ``i`` if it has no dot."""
    last = i
    dots = 0
    for _ in range(MAX_DOMAIN):
        if last >= end:
            break
        char, after = _next(data, last, table)
        if not (_is_alnum(char) or char in (0x2D, 0x2E, IGNORED, LETTER, UNSPACED)):
            break
        dots += char == 0x2E
        last = after
    return last if dots else i


@jit
def _starts_ipv6(data: Bytes, start: int, i: int, end: int) -> bool:
    """Whether a group of four that begins with 2 or 3, as all of 2000::/3, and a colon follow."""
    if i + 5 >= end or data[i] not in (0x32, 0x33) or data[i + 4] != 0x3A:
        return False
    return i == start or not (data[i - 1] == 0x3A or _is_alnum(int(data[i - 1])))


@jit
def _iban_bounds(data: Bytes, start: int, i: int, end: int, table: U8) -> tuple[int, int]:
    """Return the bounds of letters and digits, in groups, whose third character is at byte ``i``.

    They begin with two letters and two digits, not inside a word; between them may be a space if the
    letters are capitals, as few words before a number are. If not, or if too few follow, the bounds
    are empty.
    """
    first = i
    is_spaced = False
    for letter in range(2):
        if first == start:
            return i, i
        char, first = _previous(data, first, table)
        if letter == 0 and char == 0x20 and first > start:
            is_spaced = True
            char, first = _previous(data, first, table)
        while char == IGNORED and first > start:
            char, first = _previous(data, first, table)
        if not (_is_capital(char) if is_spaced else _is_alpha(char)):
            return i, i
    if first > start and _is_alnum(_previous(data, first, table)[0]):
        return i, i
    at = last = i
    count, separators = 2, 0
    while at < end and count < MAX_IBAN_CHARS:
        char, at = _next(data, at, table)
        if _is_alnum(char):
            if count < 4 and not _is_digit(char):
                return i, i
            count += 1
            separators = 0
            last = at
        elif char in (0x20, 0x2D, 0x2E) and separators < 2:
            separators += 1
        elif char != IGNORED:
            break
    return (first, last) if count >= MIN_IBAN_CHARS else (i, i)


@jit
def _number_bounds(data: Bytes, start: int, i: int, end: int, table: U8) -> tuple[int, int, int]:
    """Return the kind, the start and the end of the number at byte ``i``; the kind is -1 for none."""
    digits = dots = separators = 0
    last = at = i
    while at < end:
        char, at = _next(data, at, table)
        if _is_digit(char):
            digits += 1
            separators = 0
            last = at
        elif _is_separator(char) and separators < 3:
            separators += 1
            dots += char == 0x2E
        elif char != IGNORED:
            break
    first = i
    for _ in range(2):
        if first > start:
            char, before = _previous(data, first, table)
            if char in (0x28, 0x2B):  # ( +
                first = before
    if digits >= MIN_IPV4_DIGITS and dots >= 3:
        return DOTTED, first, last
    return NUMBER if digits >= MIN_PHONE_DIGITS else -1, first, last


@jit
def scan_candidates(offsets: Offsets, data: Bytes, table: U8, triggers: U8, out: I64) -> int:
    """Propose windows in n documents.

    Args:
        offsets: int64[n + 1], the documents' first bytes.
        data: UTF-8.
        table: `infra.pii.folding.fold_table`.
        triggers: `infra.pii.folding.trigger_bytes`.
        out: int64[capacity, 4], filled with (document, kind, first byte, byte after the last),
            ascending by document.

    Returns:
        The number of windows; those beyond the capacity are counted but not written.
    """
    count = 0
    for d in range(offsets.size - 1):
        start, end = offsets[d], offsets[d + 1]
        number_end = start  # the end of the last number: none begins before it
        i = start
        while i < end:
            if not triggers[data[i]]:  # nearly all characters
                i += 1
                continue
            at = i
            char, i = _next(data, at, table)
            if _is_digit(char):
                if at >= number_end:
                    first, last = _iban_bounds(data, start, at, end, table)
                    if last > first:
                        count = _propose(out, count, d, IBAN, first, last)
                if _starts_ipv6(data, start, at, end):
                    last = at
                    while last < min(end, at + MAX_IPV6_SPAN) and (
                        _is_hex(int(data[last])) or data[last] == 0x3A
                    ):
                        last += 1
                    count = _propose(out, count, d, IPV6, at, last)
                elif at >= number_end:
                    kind, first, number_end = _number_bounds(data, start, at, end, table)
                    if kind >= 0:
                        count = _propose(out, count, d, kind, first, number_end)
            elif char == 0x40 or (
                char == 0x25 and at + 2 < end and data[at + 1] == 0x34 and data[at + 2] == 0x30
            ):  # @, or %40 as in a URL
                first = _local_part_start(data, start, at, table)
                name = i if char == 0x40 else i + 2
                last = _domain_end(data, name, end, table)
                if first < at and last > name:
                    count = _propose(out, count, d, EMAIL, first, last)
    return count


@jit
def _propose(out: I64, count: int, document: int, kind: int, first: int, last: int) -> int:
    """Write a window if it fits; return the number of windows."""
    if count < out.shape[0]:
        out[count, 0] = document
        out[count, 1] = kind
        out[count, 2] = first
        out[count, 3] = last
    return count + 1


@jit
def to_char_offsets(data: Bytes, start: int, positions: I64) -> None:
    """Turn ascending byte positions into character offsets from byte ``start``, in place."""
    at = start
    characters = 0
    for k in range(positions.size):
        while at < positions[k]:
            characters += (data[at] & 0xC0) != 0x80  # continuation bytes begin no character
            at += 1
        positions[k] = characters
