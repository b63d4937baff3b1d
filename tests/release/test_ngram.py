from pathlib import Path

import pyarrow as pa
import pytest

from infra.dataset.dataset import Dataset
from lm.models.ngram.config import NgramConfig, NgramEntry
from tasks.evaluate import task as evaluate
from tasks.evaluate.config import EvaluateConfig
from tasks.release import task as release
from tasks.tokenize import task as tokenize
from tasks.tokenize.config import TokenizeConfig
from tasks.train import task as train
from tests.tokenize.corpora import context, corpus, table, variations
from views.history.training_data import TraceError, run_from_model
from views.removal.exposure import exposed_steps

SHARDS = TokenizeConfig(vocab_size=400, validation_fraction=0.2)
SCORES = EvaluateConfig(num_samples=3, prompt_tokens=4, max_new_tokens=6)
ENTRY = NgramEntry(name="counted", family="ngram", model=NgramConfig(order=3))


def build(root: Path) -> tuple[Dataset, Dataset, Dataset]:
    """Count, release and evaluate."""
    ctx = context(root)
    documents = [table(variations(20, start)) for start in range(0, 100, 20)]
    licenses = pa.array(["CC0-1.0"] * 20)
    place = documents[0].column_names.index("license")
    texts = corpus(ctx, [part.set_column(place, "license", licenses) for part in documents])
    tokens = tokenize.build(
        ctx, tokenize.spec(ctx, config=SHARDS, corpus=texts), config=SHARDS, corpus=texts
    )
    spec = train.spec(ctx, config=ENTRY, tokens=tokens)
    model = train.build(ctx, spec, config=ENTRY, tokens=tokens)
    export = release.build(
        ctx, release.spec(ctx, model=model, tokens=tokens), model=model, tokens=tokens
    )
    plan = evaluate.spec(ctx, config=SCORES, model=export, tokens=tokens)
    return model, export, evaluate.build(ctx, plan, config=SCORES, model=export, tokens=tokens)


def test_a_counted_model_is_released_and_evaluated_as_any_other(tmp_path: Path) -> None:
    model, export, scores = build(tmp_path)
    names = {"config.json", "model.arpa", "model.safetensors", "tokenizer.json", "README.md"}
    assert set(export.manifest.files) == names
    assert export.read("model.arpa").startswith(b"\\data\\\nngram 1=")
    assert b"order 3" in export.read("README.md")
    metrics = scores.stats["metrics"]
    # The baseline is the same model, counted from the same tokens.
    assert metrics["bits_per_byte"] == metrics["baselines"]["trigram"]["bits_per_byte"] < 8
    assert any(sample["generated"] for sample in scores.stats["samples"])
    # All documents were read in its one pass, and there are no other steps to trace.
    assert exposed_steps(model, 0, 1) == [0]
    with pytest.raises(TraceError):
        run_from_model(model, "")
