"""Parallel text: two files of lines, TMX, gettext's PO and MO catalogs."""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

from lxml import etree

from tasks.finetune.data.records import DataFileError, Rejection, Record

_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_NATIVE_CODE = ("bpt", "ept", "ph", "it", "ut")  # TMX 1.4: markup of the original format

_PO_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[(\d+)\])?)\s*(".*")$')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_CHARSET = re.compile(rb"charset=([\w.:-]+)", re.I)


def read_lines(source: bytes, target: bytes, names: tuple[str, str]) -> Iterator[Record | Rejection]:
    """Read two files of which line n is the translation of line n.

    Raises:
        DataFileError: if they differ in their number of lines.
    """
    sides = [data.removesuffix(b"\n").split(b"\n") for data in (source, target)]
    if len(sides[0]) != len(sides[1]):
        message = f"{names[0]} has {len(sides[0])} lines and {names[1]} {len(sides[1])}: not parallel"
        raise DataFileError(message)
    for row, lines in enumerate(zip(*sides, strict=True), 1):
        try:
            texts = [line.decode("utf-8-sig" if row == 1 else "utf-8").strip() for line in lines]
        except UnicodeDecodeError as error:
            yield Rejection(row, "bad_encoding", f"not UTF-8: {error.reason}")
            continue
        yield Record(row, dict(zip(("source", "target"), texts, strict=True)))


def read_tmx(data: bytes, name: str) -> Iterator[Record | Rejection]:
    """Read TMX 1.4: the columns are the languages, in lower case and also without their region.

    Inline markup of the original format is left out. Entities are not expanded and nothing is fetched.

    Raises:
        DataFileError: if it is no well-formed XML up to its end, or has no translation unit.
    """
    row = 0
    try:
        units = etree.iterparse(
            BytesIO(data), tag="{*}tu", resolve_entities=False, no_network=True, load_dtd=False
        )
        for _, unit in units:
            row += 1
            values: dict[str, str] = {}
            for variant in unit.iterfind("{*}tuv"):
                language = (variant.get(_LANG) or variant.get("lang") or "").lower()
                text = _segment_text(variant.find("{*}seg")).strip()
                values.setdefault(language, text)
                values.setdefault(re.split("[-_]", language)[0], text)
            yield Record(row, values)
            unit.clear()
    except etree.XMLSyntaxError as error:
        raise DataFileError(f"{name}: not well-formed TMX: {error}") from None
    if not row:
        raise DataFileError(f"{name}: no translation unit (tu); not TMX")


def _segment_text(segment: Any) -> str:
    if segment is None:
        return ""
    text = segment.text or ""
    for child in segment:
        is_code = not isinstance(child.tag, str) or etree.QName(child).localname in _NATIVE_CODE
        text += ("" if is_code else _segment_text(child)) + (child.tail or "")
    return text


def read_po(data: bytes, name: str) -> Iterator[Record | Rejection]:
    """Read a PO catalog: ``msgid``, ``msgstr`` and ``msgctxt`` of each message.

    Of a message with plural forms, the singular is paired with the first form and the plural with the
    last. Obsolete messages and the header are not read; messages without a translation, and fuzzy ones,
    which no translator has confirmed, are dropped.

    Bytes that are not of the encoding that the header names become surrogates, which fail with their message.

    Raises:
        DataFileError: if there is no such encoding, or the whole is not of it.
    """
    match = _CHARSET.search(data[:4096])
    charset = match[1].decode() if match and match[1] != b"CHARSET" else "utf-8"
    try:
        lines = data.decode(charset, "surrogateescape").removeprefix("\ufeff").split("\n")
    except (UnicodeError, LookupError) as error:  # some codecs have errors of their own
        raise DataFileError(f"{name}: the charset of its header: {error}") from None
    entry: dict[str, str] = {}
    first, field, fuzzy = 0, "", False
    for number, line in enumerate([*map(str.strip, lines), ""], 1):
        keyword = _PO_KEYWORD.match(line)
        starts = keyword is not None and keyword[1] in ("msgid", "msgctxt") and "msgid" in entry
        if entry and (starts or not line or line.startswith("#")):
            yield from _read_message(first, entry, fuzzy=fuzzy)
            entry, fuzzy = {}, False
        if line.startswith("#,") and "fuzzy" in line:
            fuzzy = True
        elif keyword is not None:
            first = first if entry else number
            field = keyword[1]
            entry[field] = _unescape(keyword[3])
        elif line.startswith('"') and line.endswith('"') and len(line) > 1 and entry:
            entry[field] += _unescape(line)
        elif line and not line.startswith("#"):
            yield Rejection(number, "bad_row", f"line {number} is not PO")


def _read_message(row: int, entry: Mapping[str, str], *, fuzzy: bool) -> Iterator[Record | Rejection]:
    forms = [value for key, value in entry.items() if key.startswith("msgstr")]
    if "msgid" not in entry or not forms:
        yield Rejection(row, "bad_row", f"the message of line {row} has no msgid or no msgstr")
        return
    if not entry["msgid"]:
        return  # the header
    if fuzzy:
        yield Rejection(row, "fuzzy", "no translator has confirmed the translation", failed=False)
        return
    if not any(forms):
        yield Rejection(row, "untranslated", "msgstr is empty", failed=False)
        return
    yield from _pair_forms(row, entry["msgid"], entry.get("msgid_plural"), forms, entry)


def _pair_forms(
    row: int, singular: str, plural: str | None, forms: Sequence[str], entry: Mapping[str, str]
) -> Iterator[Record]:
    context = {"msgctxt": entry["msgctxt"]} if "msgctxt" in entry else {}
    yield Record(row, {"msgid": singular, "msgstr": forms[0], **context})
    if plural is not None and len(forms) > 1:
        yield Record(row, {"msgid": plural, "msgstr": forms[-1], **context})


def _unescape(quoted: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[0]), quoted[1:-1])


def read_mo(data: bytes, name: str) -> Iterator[Record | Rejection]:
    """Read a compiled catalog (GNU gettext manual, "The Format of GNU MO Files"), as ``read_po`` does.

    Raises:
        DataFileError: if it is none, or is damaged.
    """
    magic = data[:4]
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(magic)
    if order is None:
        raise DataFileError(f"{name}: not an MO catalog")
    try:
        count, ids, strings = struct.unpack_from(f"{order}3I", data, 8)
        charset = "utf-8"
        for index in range(count):
            raw = []
            for table in (ids, strings):
                length, offset = struct.unpack_from(f"{order}2I", data, table + 8 * index)
                if offset + length > len(data):
                    raise struct.error("a message lies outside of the file")
                raw.append(data[offset : offset + length])
            if not raw[0]:
                match = _CHARSET.search(raw[1])
                charset = match[1].decode() if match else charset
                continue
            yield from _read_binary_message(index + 1, raw[0].decode(charset), raw[1].decode(charset))
    except (struct.error, UnicodeDecodeError, LookupError) as error:
        raise DataFileError(f"{name}: a damaged MO catalog: {error}") from None


def _read_binary_message(row: int, key: str, value: str) -> Iterator[Record]:
    context, separator, rest = key.partition("\x04")
    entry = {"msgctxt": context} if separator else {}
    singular, _, plural = (rest if separator else key).partition("\0")
    yield from _pair_forms(row, singular, plural or None, value.split("\0"), entry)
