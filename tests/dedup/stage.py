"""The stage run over small corpora, and its result as plain values."""

import random
from collections.abc import Sequence
from typing import Any

from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context
from infra.schemas.duplicate_pairs import iter_verified_pairs
from tasks.dedup import task as dedup
from tasks.dedup.config import DedupConfig
from tests.dedup.corpora import Row, edited, prose, row

Labels = dict[str, tuple[str | None, str | None, int]]


def run(ctx: Context, sources: Sequence[Dataset], **settings: object) -> Dataset:
    inputs: dict[str, Any] = {
        "config": DedupConfig.model_validate(settings),
        "documents": list(sources),
    }
    return dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs)


def verified_pairs(result: Dataset) -> list[Row]:
    return [row for table in iter_verified_pairs(result) for row in table.to_pylist()]


def labels(result: Dataset) -> Labels:
    return {
        r["id"]: (r["exact_group"], r["cluster"], r["cluster_size"])
        for r in result.table().to_pylist()
    }


def corpus(seed: int) -> list[Row]:
    """Twelve texts, three with near-duplicates and two with exact duplicates, and some very short ones."""
    rng = random.Random(seed)
    originals = [prose(rng, rng.randint(80, 400)) for _ in range(12)]
    texts = [" ".join(words) for words in originals]
    texts += [" ".join(edited(rng, words, 1 + len(words) // 100)) for words in originals[:3]]
    texts += [texts[5].upper(), f"  {texts[6]}\n"]
    texts += ["only four words here", "Only four  words here", "two words", "", " "]
    return [row("site", text, f"http://x/{i}") for i, text in enumerate(texts)]
