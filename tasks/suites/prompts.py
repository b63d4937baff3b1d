"""Prompts of items: solved items before it, drawn by its id."""

from collections.abc import Iterator, Sequence

import numpy as np

from infra.dataset.fingerprint import json_sha256
from tasks.suites.config import WITH_CONTEXT
from tasks.suites.items import Suite, SuiteItem

SEPARATOR = "\n\n"  # between solved items, as in lm-evaluation-harness


def make_prompts(suite: Suite) -> Iterator[str]:
    """Yield what is read before the answer of each item: solved items, and its context.

    The draw depends on the item's id and the solved items alone, never on which other items are scored.
    No item of the same cluster is drawn: it could give the answer away.
    """
    for item in suite.items:
        if suite.config.type not in WITH_CONTEXT:
            yield item.context
            continue
        shots = _draw(item, suite.shots, suite.config.num_fewshot, suite.name)
        solved = [shot.context + suite.config.delimiter + shot.answer for shot in shots]
        yield SEPARATOR.join([*solved, item.prefix + item.context])


def _draw(item: SuiteItem, pool: Sequence[SuiteItem], count: int, suite: str) -> list[SuiteItem]:
    if not count:
        return []
    seed = int(json_sha256(["few-shot", suite, item.id])[:16], 16)
    order = np.random.default_rng(seed).permutation(len(pool))
    drawn: list[SuiteItem] = []
    for index in order:
        other = pool[int(index)]
        if other.cluster != item.cluster and other.id != item.id:
            drawn.append(other)
        if len(drawn) == count:
            break
    return drawn
