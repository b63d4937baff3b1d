"""A compiled scan that proposes windows of bytes which may contain personal data."""

from infra.compute.arrays import I64
from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets

# Kinds of window.
EMAIL, NUMBER, DOTTED, IBAN, IPV6 = range(5)

MAX_LOCAL_PART = 64  # characters of a mailbox name (RFC 5321, 4.5.3.1.1)
MAX_DOMAIN = 253  # characters of a domain name (RFC 1035, 2.3.4)
MIN_IBAN_CHARS = 15
MAX_IPV6_SPAN = 40  # 39 characters, and the one after the end
MAX_IBAN_SPAN = 43  # 34 characters in groups of four, and the one after the end
MIN_PHONE_DIGITS = 7  # of a phone number
MIN_IPV4_DIGITS = 4  # digits of an IPv4 address


@jit
def _is_digit(byte: int) -> bool:
    return 0x30 <= byte <= 0x39


@jit
def _is_upper(byte: int) -> bool:
    return 0x41 <= byte <= 0x5A


@jit
def _is_alnum(byte: int) -> bool:
    return 0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A


@jit
def _is_hex(byte: int) -> bool:
    return 0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x46 or 0x61 <= byte <= 0x66


@jit
def _is_local_part_char(byte: int) -> bool:
    return _is_alnum(byte) or byte in (0x2E, 0x5F, 0x25, 0x2B, 0x2D)  # . _ % + -


@jit
def _is_separator(byte: int) -> bool:
    return byte in (0x20, 0x2E, 0x2D, 0x28, 0x29, 0x2F)  # space . - ( ) /


@jit
def _starts_ipv6(data: Bytes, start: int, i: int, end: int) -> bool:
    """Whether a group of four that begins with 2 or 3, as all of 2000::/3, and a colon follow."""
    if i + 5 >= end or data[i] not in (0x32, 0x33) or data[i + 4] != 0x3A:
        return False
    return i == start or not (_is_alnum(data[i - 1]) or data[i - 1] == 0x3A)


@jit
def _starts_iban(data: Bytes, start: int, i: int, end: int) -> bool:
    """Whether two capitals (the first one known) and two digits follow, not inside a word."""
    if i + MIN_IBAN_CHARS > end or not _is_upper(data[i + 1]):
        return False
    if not (_is_digit(data[i + 2]) and _is_digit(data[i + 3])):
        return False
    return i == start or not _is_alnum(data[i - 1])


@jit
def scan_candidates(offsets: Offsets, data: Bytes, out: I64) -> int:
    """Propose windows in n documents.

    Args:
        offsets: int64[n + 1], the documents' first bytes.
        data: UTF-8.
        out: int64[capacity, 4], filled with (document, kind, first byte, byte after the last) in
            the order of the text.

    Returns:
        The number of windows; those beyond the capacity are counted but not written.
    """
    count = 0
    for d in range(offsets.size - 1):
        start, end = offsets[d], offsets[d + 1]
        number_end = start  # the end of the last number: none begins before it
        for i in range(start, end):
            byte = data[i]
            kind = -1
            first = last = i
            if byte == 0x40:
                while (
                    first > start
                    and _is_local_part_char(data[first - 1])
                    and i - first <= MAX_LOCAL_PART
                ):
                    first -= 1
                last = i + 1
                while (
                    last < end
                    and last - i <= MAX_DOMAIN
                    and (_is_alnum(data[last]) or data[last] == 0x2E or data[last] == 0x2D)
                ):
                    last += 1
                if first < i and last > i + 1:
                    kind = EMAIL
            elif _is_digit(byte):
                if _starts_ipv6(data, start, i, end):
                    last = i
                    while last < min(end, i + MAX_IPV6_SPAN) and (
                        _is_hex(data[last]) or data[last] == 0x3A
                    ):
                        last += 1
                    kind = IPV6
                if kind < 0 and i >= number_end:
                    digits = dots = separators = 0
                    last = i
                    j = i
                    while j < end:
                        if _is_digit(data[j]):
                            digits += 1
                            separators = 0
                            last = j + 1
                        elif _is_separator(data[j]) and separators < 2:
                            separators += 1
                            dots += data[j] == 0x2E
                        else:
                            break
                        j += 1
                    number_end = last
                    while first > start and first > i - 2 and data[first - 1] in (0x28, 0x2B):
                        first -= 1
                    if digits >= MIN_IPV4_DIGITS and dots >= 3:
                        kind = DOTTED
                    elif digits >= MIN_PHONE_DIGITS:
                        kind = NUMBER
            elif _is_upper(byte) and _starts_iban(data, start, i, end):
                last = min(end, i + MAX_IBAN_SPAN)
                kind = IBAN
            if kind >= 0:
                if count < out.shape[0]:
                    out[count, 0] = d
                    out[count, 1] = kind
                    out[count, 2] = first
                    out[count, 3] = last
                count += 1
    return count


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
