"""The media type that a Content-Type header names, as browsers read it."""

import re

_QUOTED = re.compile(r'"[^"]*"')
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^`|~\w-]+/[!#$%&'*+.^`|~\w-]+", re.ASCII)
_UNKNOWN = frozenset(("*/*", "unknown/unknown", "application/unknown"))  # MIME Sniffing, 7


def media_type(content_type: str | None) -> str:
    """The media type of a Content-Type header, lower case, without parameters.

    Of several the last one that is valid (Fetch, "extract a MIME type"). It is empty if none is, as in
    ``html`` and ``text/html:charset=utf-8``: browsers then look at the page.
    """
    values = _QUOTED.sub("", content_type or "").lower().split(",")
    names = [value.partition(";")[0].strip() for value in values]
    known = [name for name in names if _MEDIA_TYPE.fullmatch(name) and name not in _UNKNOWN]
    return known[-1] if known else ""
