"""Token shards, counted models and evaluation have the same bytes with worker processes and without."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.dataset.dataset import Dataset
from lm.models.ngram.config import NgramEntry
from tasks.evaluate import task as evaluation
from tasks.evaluate.config import EvaluateConfig
from tasks.tokenize import task as tokenization
from tasks.tokenize.config import TokenizeConfig
from tasks.train import task as train
from tests.evaluate import tiny
from tests.tokenize.corpora import context, corpus, table, variations

pytestmark = pytest.mark.e2e

SHARDS = TokenizeConfig(vocab_size=400, validation_fraction=0.2)
COUNTED = NgramEntry(name="counted", family="ngram")
SCORES = EvaluateConfig(num_samples=2, prompt_tokens=4, max_new_tokens=5)


def build(root: Path, workers: int, model: Path) -> list[Dataset]:
    ctx = context(root, workers=workers)
    with ctx.cluster:
        texts = corpus(ctx, [table(variations(20, start)) for start in range(0, 100, 20)])
        spec = tokenization.spec(ctx, config=SHARDS, corpus=texts)
        tokens = tokenization.build(ctx, spec, config=SHARDS, corpus=texts)
        released = tiny.release(ctx, model)
        inputs: dict[str, Any] = {"config": SCORES, "model": released, "tokens": tokens}
        scores = evaluation.build(ctx, evaluation.spec(ctx, **inputs), **inputs)
        counted = train.build(
            ctx, train.spec(ctx, config=COUNTED, tokens=tokens), config=COUNTED, tokens=tokens
        )
        return [tokens, scores, counted]


def manifest(data: Dataset) -> dict[str, Any]:
    """Return a manifest without what it says of the machine's speed."""
    value: dict[str, Any] = json.loads(data.storage.read("manifest.json"))
    for name in ("cpu_seconds", "tokens_per_second"):
        value["stats"].pop(name, None)
    return value


def test_two_workers_give_the_bytes_of_one_process(tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "tiny", 400)
    inline, parallel = build(tmp_path / "a", 0, model), build(tmp_path / "b", 2, model)
    for one, other in zip(inline, parallel, strict=True):
        assert manifest(one) == manifest(other)
        for file in one.manifest.all_files:
            assert one.storage.read(file.name) == other.storage.read(file.name)
