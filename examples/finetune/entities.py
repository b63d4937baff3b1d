"""Named entities in financial agreements, from prompts and answers back to BIO tags."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from infra.download.pypi import read_archive_file

_FILE = "evals/registry/data/ner_finance/samples.jsonl"
_ENTITY = re.compile(r"(.+?) - (PERSON|ORGANIZATION|LOCATION)(?:, |$)")
_SHORT = {"PERSON": "PER", "ORGANIZATION": "ORG", "LOCATION": "LOC"}


def iter_entity_sentences(archive: Path) -> Iterator[list[tuple[str, str]]]:
    """Yield the words of each sentence with their tags.

    A sentence is left out if its entities are not found in the order in which they are listed.
    """
    for line in read_archive_file(archive, _FILE).decode().splitlines():
        sample = json.loads(line)
        words = sample["input"][1]["content"].split()
        tags = _tag_words(words, sample["ideal"])
        if words and tags is not None:
            yield list(zip(words, tags, strict=True))


def _tag_words(words: list[str], answer: str) -> list[str] | None:
    tags = ["O"] * len(words)
    if answer == "No entities found":
        return tags
    at = 0
    for name, kind in _ENTITY.findall(answer.strip().removeprefix("[").removesuffix("]")):
        entity = name.split()
        n = len(entity)
        starts = (i for i in range(at, len(words) - n + 1) if words[i : i + n] == entity)
        start = next(starts, None)
        if start is None:
            return None
        tags[start : start + n] = [f"B-{_SHORT[kind]}", *[f"I-{_SHORT[kind]}"] * (n - 1)]
        at = start + n
    return tags
