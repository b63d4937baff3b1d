"""Pseudo-log-likelihood: each token masked alone, predicted from all others of its window."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.dataset.dataset import Dataset
from infra.formats.megatron import VALIDATION, TokenShards
from lm.models.hf_auto import load_model
from lm.models.model_kind import MASKED
from lm.scoring.masked import MaskedModel
from tasks.evaluate import task
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.eval_plan import MaskSample
from tasks.release.export import TrainedModel, export
from tasks.suites.config import SuiteConfig
from tasks.suites.items import SuiteItem
from tasks.suites.score import score_masked_items
from tests.evaluate import tiny
from tests.lm.corpora import context, token_shards, tokenizer
from tests.release.test_denoising import far_from_start
from tests.release.test_release import trained_files

EOS, MASK = 0, 300


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def folder(
    tokens: Dataset, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    made = tmp_path_factory.mktemp("model")
    files = trained_files(far_from_start(request.param, tied=True), made, tokens)
    export(TrainedModel.from_files(files, EOS), made / "hf")
    return made / "hf"


def by_hand(folder: Path, ids: list[int], at: int) -> float:
    shown = [*ids[:at], MASK, *ids[at + 1 :]]
    with torch.no_grad():
        logits = load_model(folder)(torch.tensor([shown])).logits[0, at]
    return -float(torch.log_softmax(logits, -1)[ids[at]])


def test_a_sentence_of_a_minimal_pair_is_scored_token_by_token(folder: Path) -> None:
    suite = {"name": "s", "items": "s.jsonl", "license": "CC0-1.0", "source": "made up"}
    config = SuiteConfig.model_validate({**suite, "type": "minimal_pairs"})
    texts = ("A crow saw", "A crow the")
    item = SuiteItem("1", None, "1", "", texts)
    [scored] = score_masked_items(config, [item], MaskedModel(folder, EOS), tokenizer())
    for text, nats in zip(texts, scored.row["nats"], strict=True):
        ids = [*tokenizer().encode(text).ids, EOS]
        expected = sum(by_hand(folder, ids, at) for at in range(len(ids) - 1))
        assert nats == pytest.approx(expected, abs=1e-3)
    first, second = scored.row["nats"]
    assert scored.metrics["accuracy"][0] == float(first < second)


def test_of_a_counterfactual_pair_only_the_continuation_is_masked(folder: Path) -> None:
    suite = {"name": "s", "items": "s.jsonl", "license": "CC0-1.0", "source": "made up"}
    config = SuiteConfig.model_validate({**suite, "type": "counterfactual_pairs"})
    item = SuiteItem("1", None, "1", "A crow", ("saw the",), other_context="Das Kind")
    [scored] = score_masked_items(config, [item], MaskedModel(folder, EOS), tokenizer())
    for text, nats in zip(("A crow", "Das Kind"), scored.row["nats"], strict=True):
        before = len(tokenizer().encode(text).ids)
        ids = [*tokenizer().encode(f"{text} saw the").ids, EOS]
        expected = sum(by_hand(folder, ids, at) for at in range(before, len(ids) - 1))
        assert nats == pytest.approx(expected, abs=1e-4)


def test_tokens_are_scored_as_by_hand(folder: Path) -> None:
    model = MaskedModel(folder, EOS)
    ids = np.random.default_rng(1).integers(1, 300, 60)
    short = ids[:10]
    (few, none, many) = model.score_tokens(
        [short, short, ids], [np.array([0, 4]), np.array([], int), np.array([1, 30, 59])]
    )
    assert few == pytest.approx([by_hand(folder, short.tolist(), at) for at in (0, 4)], abs=1e-4)
    assert len(none) == 0
    # The context is 24: the token is in the middle of its window, as far as the text allows.
    windows = [(0, 1), (18, 30), (36, 59)]
    expected = [
        by_hand(folder, ids[start : start + 24].tolist(), at - start) for start, at in windows
    ]
    assert many == pytest.approx(expected, abs=1e-4)


def test_a_sample_is_of_the_stated_size_and_without_ends_of_text() -> None:
    ids = np.full(20_000, 5)
    ids[::100] = EOS
    chosen = MaskSample(1, 0.1).choose("d1", ids, EOS)
    assert len(chosen) == pytest.approx(0.1 * 19_800, rel=0.1)
    assert (ids[chosen] != EOS).all()
    assert chosen.tolist() == MaskSample(1, 0.1).choose("d1", ids, EOS).tolist()
    assert set(chosen) <= set(MaskSample(1, 0.2).choose("d1", ids, EOS))
    for other in (
        MaskSample(2, 0.1).choose("d1", ids, EOS),
        MaskSample(1, 0.1).choose("d2", ids, EOS),
    ):
        assert chosen.tolist() != other.tolist()
    assert len(MaskSample(1, 3.0).choose("d1", ids, EOS)) == 19_800


def test_an_evaluation_has_the_masked_rates_and_no_bits_per_byte(
    tokens: Dataset, folder: Path, tmp_path: Path
) -> None:
    ctx, config = context(tmp_path), EvaluateConfig(max_masked_tokens=10**9)
    model = tiny.release(ctx, folder, kind=MASKED)
    spec = task.spec(ctx, config=config, model=model, tokens=tokens)
    done = task.build(ctx, spec, config=config, model=model, tokens=tokens)
    held: Any = TokenShards(tokens, VALIDATION)
    documents = [held.read_document(row) for row in range(held.num_documents)]
    scorer = MaskedModel(folder, EOS)
    nats = sum(
        scorer.score_tokens([ids], [np.flatnonzero(ids != EOS)])[0].sum() for ids in documents
    )
    found = done.stats["metrics"]
    count = len(held) - len(documents)
    assert found["masked_tokens"] == count
    assert found["pseudo_nats_per_token"] == pytest.approx(nats / count, rel=1e-5)
    assert found["pseudo_perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)
    expected = nats / count * len(held) / found["bytes"] / math.log(2)
    assert found["pseudo_bits_per_byte"] == pytest.approx(expected, rel=1e-4)
    assert "bits_per_byte" not in found
    assert found["baselines"]["trigram"]["bits_per_byte"] > 0
    assert found["by_source"]["books"]["masked_tokens"] < count
    assert done.stats["samples"] == []
