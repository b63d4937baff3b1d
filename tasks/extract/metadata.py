"""The metadata that a page states: title, date, language, license. Nothing is guessed."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urljoin

from infra.formats.characters import remove_control_characters

_MAX_TITLE_CHARS = 500
# The years in which a page can be dated: since the Web began, with a bound that does not depend on the clock.
_YEARS = range(1990, 2101)

# By property, name or itemprop, in order of trust: published, then any date, then last
# modified.
_DATE_TAGS = (
    "article:published_time",
    "og:published_time",
    "datepublished",
    "citation_publication_date",
    "citation_date",
    "dcterms.issued",
    "dc.date.issued",
    "dcterms.created",
    "dc.date.created",
    "datecreated",
    "parsely-pub-date",
    "sailthru.date",
    "pubdate",
    "publishdate",
    "publish_date",
    "publish-date",
    "publication_date",
    "dcterms.date",
    "dc.date",
    "date",
    "article:modified_time",
    "og:updated_time",
    "dcterms.modified",
    "datemodified",
    "last-modified",
)
_LICENSE_TAGS = ("dcterms.license", "dc.rights.license", "dcterms.rights", "dc.rights", "license")
_ISO_DATE = re.compile(r"^\s*(\d{4})-?(\d\d)(?:-?(\d\d))?(?:[T\s].*|Z)?$", re.S)
_SLASHED_DATE = re.compile(r"^\s*(\d{4})[/.-](\d{1,2})[/.-](\d{1,2})(?:[T\s].*)?$", re.S)
_MONTHS = (
    "january february march april may june july august september october november december"
).split()
# 5 March 2024, 5th Mar. 2024, Tuesday, March 5, 2024
_NAMED_DATE = re.compile(
    r"\s*(?:[A-Za-z]{3,9}[.,]*\s+)?"
    r"(?:(\d{1,2})(?:st|nd|rd|th)?[\s-]+([A-Za-z]{3,9})[.,]*[\s-]+"
    r"|([A-Za-z]{3,9})\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+)(\d{4})(?![\w-])"
)
_LANGUAGE_TAG = re.compile(r"^[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*$")
# CC BY-SA 4.0, cc-by-4.0, CC0
_CREATIVE_COMMONS_NAME = re.compile(
    r"(?:creative commons|cc)[ -]?(0|by(?:[ -](?:nc|nd|sa))*)(?:[ -]v?(\d\.\d))?(?: (?:international|universal))?",
    re.I,
)
_CREATIVE_COMMONS = re.compile(
    r"^(?:https?:)?//(?:www\.)?creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)"
    r"(?:/(\d\.\d))?",
    re.I,
)


@dataclass(frozen=True)
class Metadata:
    """The metadata of a page; ``None`` where the page does not state it."""

    title: str | None = None
    date: str | None = None
    language: str | None = None
    license: str | None = None


def read_metadata(root: Any, url: str) -> Metadata:
    """The metadata of a parsed page.

    Args:
        root: the page as an lxml element.
        url: its URL, against which relative license links are resolved.
    """
    meta = _meta_tags(root)
    data = list(_iter_json_ld(root))
    return Metadata(
        title=_find_title(root, meta),
        date=_find_date(root, meta, data),
        language=_find_language(root, meta),
        license=_clean_license(_find_license(root, meta, data, url)),
    )


def _meta_tags(root: Any) -> dict[str, str]:
    """Meta tags by property, name, itemprop or http-equiv, lower case; the first of a name wins."""
    out: dict[str, str] = {}
    for tag in root.iter("meta"):
        value = (tag.get("content") or "").strip()
        for attribute in ("property", "name", "itemprop", "http-equiv"):
            name = (tag.get(attribute) or "").strip().lower()
            if name and value:
                out.setdefault(name, value)
    return out


def _iter_json_ld(root: Any) -> Iterator[dict[str, Any]]:
    """Every JSON-LD object on the page, those inside others included, in document order."""
    for script in root.iter("script"):
        if (script.get("type") or "").split(";")[0].strip().lower() != "application/ld+json":
            continue
        try:
            # Strings with line breaks are no JSON, but pages have them.
            stack = [json.loads(script.text or "", strict=False)]
        except (ValueError, RecursionError):
            continue
        while stack:
            item = stack.pop()
            if isinstance(item, list):
                stack.extend(reversed(item))
            elif isinstance(item, dict):
                yield item
                stack.extend(
                    value for value in reversed(item.values()) if isinstance(value, list | dict)
                )


def _clean_title(text: str | None) -> str | None:
    short = " ".join((text or "").split())[:_MAX_TITLE_CHARS].strip()
    return short or None


def _find_title(root: Any, meta: dict[str, str]) -> str | None:
    title = _clean_title(meta.get("og:title"))
    for tag in ("title", "h1"):
        for element in root.iter(tag):
            if any(parent.tag == "svg" for parent in element.iterancestors()):
                continue  # the name of a picture
            title = title or _clean_title("".join(element.itertext()))
    return title


def parse_date(text: object) -> str | None:
    """Parse a date to a day or month in ISO 8601; ``None`` if it cannot be parsed.

    Understood are ISO 8601 with or without a time, ``YYYY/MM/DD``, days with an English month
    (5 March 2024; March 5, 2024) and the dates of HTTP and mail (RFC 5322). Dates such as 03/04/2021 mean different days in different countries: ``None``.
    """
    if not isinstance(text, str) or len(text) > 64:
        return None
    match = _ISO_DATE.match(text) or _SLASHED_DATE.match(text)
    if match:
        year, month, day = (int(part) if part else None for part in match.groups())
    elif named := _NAMED_DATE.match(text):
        day, year = int(named[1] or named[4]), int(named[5])
        month = _month_number(named[2] or named[3])
    else:
        from email.utils import parsedate

        parsed = parsedate(text)
        if parsed is None:
            return None
        year, month, day = parsed[:3]
    try:
        first_day = date(year or 0, month or 0, day or 1)
    except ValueError:
        return None
    if first_day.year not in _YEARS:
        return None
    return first_day.isoformat() if day else f"{first_day:%Y-%m}"


def _month_number(name: str) -> int | None:
    name = name.lower()
    if name == "sept" or len(name) == 3 or name in _MONTHS:
        return next((i for i, month in enumerate(_MONTHS, 1) if month.startswith(name)), None)
    return None


def _find_date(root: Any, meta: dict[str, str], json_ld: list[dict[str, Any]]) -> str | None:
    published = [item.get("datePublished") for item in json_ld]
    candidates: list[object] = [meta.get(name) for name in _DATE_TAGS[:3]]
    candidates += published
    candidates += [meta.get(name) for name in _DATE_TAGS[3:]]
    candidates += [item.get("dateCreated") or item.get("dateModified") for item in json_ld]
    times = list(root.iter("time"))
    stamped = [tag for tag in times if tag.get("pubdate") is not None or tag.get("itemprop")]
    candidates += [tag.get("datetime") or tag.text for tag in [*stamped, *times]]
    return next((day for text in candidates if (day := parse_date(text)) is not None), None)


def normalize_language_tag(text: str | None) -> str | None:
    """A language tag in its usual spelling (``pt-BR``); ``None`` if it is not one."""
    first = (text or "").split(",")[0].split(";")[0].strip()
    if not _LANGUAGE_TAG.match(first):
        return None
    primary, *rest = first.replace("_", "-").split("-")
    return "-".join([primary.lower(), *(part.upper() if len(part) == 2 else part for part in rest)])


def _find_language(root: Any, meta: dict[str, str]) -> str | None:
    top = root if root.tag == "html" else next(root.iter("html"), root)
    xml_lang = "{http://www.w3.org/XML/1998/namespace}lang"
    for text in (
        top.get("lang"),
        top.get(xml_lang),
        top.get("xml:lang"),
        meta.get("content-language"),
        meta.get("og:locale"),
        meta.get("dc.language"),
    ):
        tag = normalize_language_tag(text)
        if tag is not None:
            return tag
    return None


def license_name(url: str) -> str:
    """A short name for a Creative Commons URL (``cc-by-sa-4.0``), others as they are."""
    match = _CREATIVE_COMMONS.match(url)
    if match is None:
        return url
    kind, name, version = match.groups()
    name = name.lower()
    if kind.lower() == "publicdomain" or name == "publicdomain":
        return "public-domain" if name in ("mark", "publicdomain") else f"cc0-{version or '1.0'}"
    return f"cc-{name}" + (f"-{version}" if version else "")


def _find_license(
    root: Any, meta: dict[str, str], json_ld: list[dict[str, Any]], url: str
) -> str | None:
    """The license that the page states for itself.

    A link with ``rel="license"`` first, then JSON-LD, then meta tags with a URL. Links to a
    Creative Commons license without ``rel`` count only if all of them name the same one: they may
    refer to a single picture.
    """
    common: set[str] = set()
    for link in root.iter("link", "a", "area"):
        target = (link.get("href") or "").strip()
        if not target:
            continue
        if "license" in (link.get("rel") or "").lower().split():
            return license_name(_resolve_url(url, target))
        if _CREATIVE_COMMONS.match(target):
            common.add(license_name(target))
    for item in json_ld:
        value = item.get("license")
        address = value.get("@id") or value.get("url") if isinstance(value, dict) else value
        if isinstance(address, str) and address.strip():
            return _license_text(address.strip()) or license_name(
                _resolve_url(url, address.strip())
            )
    for name in _LICENSE_TAGS:
        text = meta.get(name, "")
        if text.startswith(("http://", "https://")):
            return license_name(text)
        if named := _creative_commons_name(text):
            return named
    return common.pop() if len(common) == 1 else None


def _creative_commons_name(text: str) -> str | None:
    match = _CREATIVE_COMMONS_NAME.fullmatch(text.strip())
    if match is None:
        return None
    terms, version = match[1].lower().replace(" ", "-"), match[2]
    if terms == "0":
        return f"cc0-{version or '1.0'}"
    return f"cc-{terms}" + (f"-{version}" if version else "")


def _license_text(text: str) -> str | None:
    """The name of a license that is no address: ``MIT``, ``CC BY 4.0``, "All rights reserved"."""
    is_address = (
        "/" in text or "#" in text or "." in text.rsplit(maxsplit=1)[-1].strip("0123456789.")
    )
    return None if is_address else _creative_commons_name(text) or text


def _clean_license(text: str | None) -> str | None:
    """JSON can hold characters that are not text: control characters, unpaired surrogates."""
    return (remove_control_characters(text).strip() or None) if text else None


def _resolve_url(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError:
        return target
