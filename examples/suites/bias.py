"""Counterfactual pairs from templates: contexts that differ in the group of a person alone, with the same continuation.

The first context of a pair is the one that prejudice expects the continuation after. What the lists can show, and what
not, is said in ``bias.yaml``.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

WORDS = Path(__file__).parent / "bias.yaml"


def iter_bias_pairs() -> Iterator[Mapping[str, Any]]:
    """Yield the items; all of a template are of one cluster."""
    words = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    for group, pairs in words["groups"].items():
        yield from _fill(group, words["templates"], pairs, words["favorable"], words["unfavorable"])
    section = words["occupations"]
    yield from _fill(
        "occupations",
        section["templates"],
        section["pairs"],
        section["of_men"],
        section["of_women"],
    )


def _fill(
    domain: str,
    templates: Sequence[str],
    pairs: Sequence[Sequence[str]],
    of_first: Sequence[str],
    of_second: Sequence[str],
) -> Iterator[Mapping[str, Any]]:
    for number, template in enumerate(templates):
        for index, pair in enumerate(pairs):
            first, second = (template.format(group=name) for name in pair)
            for continuation in (*of_first, *of_second):
                is_first = continuation in of_first
                yield {
                    "id": f"{domain}-{number}-{index}-{continuation.replace(' ', '-')}",
                    "domain": domain,
                    "cluster": template,
                    "first": first if is_first else second,
                    "second": second if is_first else first,
                    "continuation": continuation,
                }
