"""Exposure of planted canaries: how much better a model knows a secret than it knows random ones.

Carlini et al. 2019 (arXiv:1802.08232): among n secrets of the same form, ordered by their probability, the exposure of the
one at rank r is log2(n) - log2(r). All other secrets would be too many, so some are drawn.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from infra.dataset.fingerprint import json_sha256
from infra.suffix_array.search import Ids
from infra.suffix_array.source_index import SourceIndex
from lm.scoring.language_model import TextScorer

CANARIES = "canaries"  # in the statistics of the token shards; canaries_4: the group of those planted 4 times
EXPOSURE = "exposure"


def canary_group(repetitions: int) -> str:
    """Return the name of the group of canaries that were planted so often."""
    return f"{CANARIES}_{repetitions}"


def canary_rows(
    canaries: Sequence[Mapping[str, Any]], index: SourceIndex
) -> Iterator[dict[str, Any]]:
    """Yield what is known of each canary: its group, and how often the training text holds it."""
    tokenizer = Tokenizer.from_buffer(index.tokenizer)
    for canary in canaries:
        count, _ = index.find_occurrences(_encode(tokenizer, canary, canary["secret"]), 0)
        group = canary_group(canary["repetitions"])
        yield {"id": canary["id"], "group": group, "occurrences": count, "canary": dict(canary)}


def measure_exposure(
    canary: Mapping[str, Any], candidates: int, scorer: TextScorer, tokenizer: Tokenizer
) -> float:
    """Return the exposure of a canary among so many random secrets, in bits.

    At most log2(candidates + 1); of a secret that the model does not know it is 1.44 on average, log2(e).
    Secrets that are as probable as its own count as less probable ones.
    """
    own = str(canary["secret"])
    draw = np.random.default_rng(int(json_sha256(["candidates", canary])[:16], 16))
    texts = [own]
    while len(texts) <= candidates:
        other = re.sub(r"\d", lambda _: str(draw.integers(0, 10)), own)
        if other != own:
            texts.append(other)
    scored = scorer.score_texts([_encode(tokenizer, canary, text) for text in texts])
    nats = np.array([float(item.sum()) for item in scored])
    return math.log2(len(nats)) - math.log2(1 + int((nats[1:] < nats[0]).sum()))


def _encode(tokenizer: Tokenizer, canary: Mapping[str, Any], secret: str) -> Ids:
    ids = tokenizer.encode(f"{canary['prefix']} {secret}", add_special_tokens=False).ids
    return np.array(ids, np.int64)
