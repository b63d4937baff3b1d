"""The documents: JSONL rows in hundreds of languages, from two packages."""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from examples.quickstart.pins import BEAUTIFUL_SOUP, GFLANGUAGES
from infra.download.pypi import iter_archive

Row = Mapping[str, str]

# The Universal Declaration of Human Rights, excerpts of which show what a font can write.
_DECLARATION = "/data/languages/"
_DECLARED_AT = "https://github.com/googlefonts/lang/blob/main/Lib/gflanguages/data/languages/"
_SAMPLE = re.compile(r"^sample_text \{\n(.*?)^\}", re.M | re.S)
_FIELD = re.compile(r'^\s*(\w+): "((?:[^"\\]|\\.)*)"$', re.M)

# A user guide and its translations, in reStructuredText.
_GUIDES = {
    "doc/index.rst": ("en", "https://www.crummy.com/software/BeautifulSoup/bs4/doc/"),
    "doc.es/index.rst": ("es", "https://www.crummy.com/software/BeautifulSoup/bs4/doc.es/"),
    "doc.ptbr/source/index.rst": (
        "pt",
        "https://www.crummy.com/software/BeautifulSoup/bs4/doc.ptbr/",
    ),
    "doc.ru/source/bs4ru.rst": ("ru", "https://www.crummy.com/software/BeautifulSoup/bs4/doc.ru/"),
    "doc.zh/source/index.rst": ("zh", "https://www.crummy.com/software/BeautifulSoup/bs4/doc.zh/"),
}
_HEADING = re.compile(r"^(?P<title>\S[^\n]*)\n(?P<rule>[=\-~^])(?P=rule){2,}[ \t]*\n", re.M)


def build_documents(folder: Path) -> int:
    """Write the rows into a new folder: `iter_declarations.jsonl.gz` and `iter_guides.jsonl.gz`.

    Returns:
        The number of rows.
    """
    folder.mkdir(parents=True)
    return sum(
        _write(folder / f"{name}.jsonl.gz", rows)
        for name, rows in (("declaration", iter_declarations()), ("guides", iter_guides()))
    )


def iter_declarations() -> Iterator[Row]:
    """One row per language: the longest available passage of the declaration."""
    for name, content in iter_archive(GFLANGUAGES.fetch()):
        if _DECLARATION not in name or not name.endswith(".textproto"):
            continue
        proto = content.decode("utf-8")
        sample = _SAMPLE.search(proto)
        if sample is None:
            continue
        fields = {key: _unquote(value) for key, value in _FIELD.findall(sample[1])}
        head = {key: _unquote(value) for key, value in _FIELD.findall(proto[: sample.start()])}
        passages = [value for key, value in fields.items() if key.startswith("specimen_")]
        if passages:
            yield {
                "text": max(passages, key=len),  # the shorter ones are parts of it
                "title": head.get("name", head["id"]),
                "url": _DECLARED_AT + name.rpartition("/")[2],
                "language": head.get("language", ""),
                "license": GFLANGUAGES.license,
            }


def iter_guides() -> Iterator[Row]:
    """One row per section of the guide, in five languages."""
    for name, content in iter_archive(BEAUTIFUL_SOUP.fetch()):
        guide = _GUIDES.get(name.partition("/")[2])
        if guide is None:
            continue
        language, url = guide
        text = content.decode("utf-8").replace("\r\n", "\n")
        headings = list(_HEADING.finditer(text))
        ends = [*(heading.start() for heading in headings[1:]), len(text)]
        for number, (heading, end) in enumerate(zip(headings, ends, strict=True), start=1):
            body = text[heading.end() : end].strip()
            if body:
                yield {
                    "text": f"{heading['title']}\n\n{body}",
                    "title": heading["title"],
                    "url": f"{url}#section-{number}",
                    "language": language,
                    "license": BEAUTIFUL_SOUP.license,
                }


def _unquote(value: str) -> str:
    """A text-format protocol buffer string: UTF-8 as it is, a few backslash escapes."""
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[1]), value)


def _write(path: Path, rows: Iterable[Row]) -> int:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
    return len(lines)
