"""Labels of encodings, as HTTP headers and pages write them."""

import codecs
import re

import webencodings

# Seven-bit encodings that browsers refuse to show, because a filter that does not know them can be
# tricked into passing scripts. We keep text only, so their pages are read.
_REFUSED_BY_BROWSERS = {
    "hz-gb-2312": "hz",
    "iso-2022-kr": "iso2022_kr",
    "csiso2022kr": "iso2022_kr",
}
# Python's names of encodings that the standard has under another name.
_ALIASES = {
    "big5hkscs": "big5", "cp932": "shift_jis", "cp949": "euc-kr", "cp950": "big5",
    "euc_jis_2004": "euc-jp", "shift_jis_2004": "shift_jis",
}  # fmt: skip
# Labels that neither the standard nor Python has, but pages.
_FURTHER_LABELS = {
    **dict.fromkeys(("eucjp-ms", "eucjp-win", "eucjp-open", "cp51932", "windows-51932"), "euc-jp"),
    **dict.fromkeys(("iso-2022-jp-ms", "cp50220", "cp50221", "cp50222"), "iso-2022-jp"),
    **dict.fromkeys(("cp943", "ibm943", "cp943c"), "shift_jis"),
    **dict.fromkeys(("utf8mb4", "utf-8mb4", "utf8mb3"), "utf-8"),
    "x-mac-ce": "mac-latin2", "x-mac-greek": "mac-greek", "x-mac-turkish": "mac-turkish",
    "x-mac-icelandic": "mac-iceland", "x-mac-croatian": "mac-croatian", "x-mac-romanian": "mac-romanian",
}  # fmt: skip
_WINDOWS_LABEL = re.compile(r"(?:windows|win|cp)[-_ ]?(125[0-8]|874)")
_OTHER_CHARSETS = re.compile(r"(?:cp\d|hp-|iso|johab|koi8|kz|mac|ptcp|tis|utf-32)")


def find_encoding(label: str | None) -> str | None:
    """The encoding that a label means: the standard's name, else that of Python's codec.

    Labels that only Python knows ("latin-1", "cp437") or only pages ("win-1251") are accepted, too.
    """
    if not label:
        return None
    label = label.strip("\t\n\f\r ").lower()
    if label in _REFUSED_BY_BROWSERS:
        return _REFUSED_BY_BROWSERS[label]
    encoding = webencodings.lookup(label)
    if encoding is None and label in _FURTHER_LABELS:
        return _FURTHER_LABELS[label]
    if encoding is None and (windows := _WINDOWS_LABEL.fullmatch(label)):
        return f"windows-{windows[1]}"
    if encoding is None:
        try:
            name = codecs.lookup(label).name
        except (LookupError, ValueError):
            return None
        name = _ALIASES.get(name, name)
        encoding = webencodings.lookup(name) or webencodings.lookup(name.replace("_", "-"))
        if encoding is None:
            return name if _OTHER_CHARSETS.match(name) else None
    return None if encoding.name == "replacement" else encoding.name
