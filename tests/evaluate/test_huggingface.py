from pathlib import Path

import numpy as np
import pytest
import torch

from infra.formats.megatron import Tokens
from lm.scoring import huggingface
from lm.scoring.huggingface import HuggingFaceModel
from lm.scoring.language_model import GenerationConfig, LanguageModel, sample_token
from tests.evaluate import tiny

V, EOS = 50, 0
RNG = np.random.default_rng(3)
DOCUMENTS = [
    np.append(RNG.integers(1, V, length), EOS).astype(np.uint16)
    for length in (0, 1, 5, 15, 16, 17, 24, 60)
]
DRAWN = GenerationConfig(max_new_tokens=9, temperature=0.8, top_k=10)
GREEDY = GenerationConfig(max_new_tokens=9, temperature=0, top_k=10)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    return HuggingFaceModel(tiny.save(tmp_path_factory.mktemp("model"), V), EOS)


def by_hand(model: HuggingFaceModel, ids: Tokens) -> list[float]:
    """One forward pass per token: at most a context before it, at least half of one."""
    inputs = [EOS, *ids.tolist()]
    half = tiny.CONTEXT // 2
    nats = []
    for at, target in enumerate(ids.tolist()):
        # Windows end at 16, 24, 32, ... or at the text's end.
        end = min(len(ids), tiny.CONTEXT + half * max(0, -(-(at + 1 - tiny.CONTEXT) // half)))
        window = torch.tensor([inputs[max(0, end - tiny.CONTEXT) : at + 1]])
        with torch.inference_mode():
            logits = model._model(window).logits[0, -1].double()
        nats.append(float(torch.logsumexp(logits, 0) - logits[target]))
    return nats


def test_it_is_a_language_model(model: HuggingFaceModel) -> None:
    checked: LanguageModel = model
    assert checked.context_length == tiny.CONTEXT


def test_every_token_is_scored_as_by_hand(model: HuggingFaceModel) -> None:
    scores = model.score_texts(DOCUMENTS)
    for ids, nats in zip(DOCUMENTS, scores, strict=True):
        assert nats.tolist() == pytest.approx(by_hand(model, ids), abs=1e-4)


def test_scores_do_not_depend_on_the_batch(
    model: HuggingFaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = model.score_texts(DOCUMENTS)
    monkeypatch.setattr(huggingface, "MAX_BATCH_LOGITS", 1)  # a window at a time
    for one, other in zip(together, model.score_texts(DOCUMENTS), strict=True):
        assert one.tolist() == pytest.approx(other.tolist(), abs=1e-5)


def test_probabilities_sum_to_one(model: HuggingFaceModel) -> None:
    prompt = np.array([EOS, 4, 5], np.uint16)
    every = [np.array([4, 5, word], np.uint16) for word in range(V)]
    last = [nats[-1] for nats in model.score_texts(every)]
    assert np.exp(-np.array(last)).sum() == pytest.approx(1, abs=1e-5)
    rated = model.score_continuations([(prompt, ids[2:]) for ids in every])
    assert [item.nats for item in rated] == pytest.approx(last, abs=1e-5)
    assert [item.is_greedy for item in rated].count(True) == 1
    assert rated[int(np.argmin(last))].is_greedy


def test_a_continuation_of_nothing_is_a_text(model: HuggingFaceModel) -> None:
    [rated] = model.score_continuations([(np.zeros(0, np.uint16), DOCUMENTS[4])])
    assert rated.nats == pytest.approx(float(model.score_texts(DOCUMENTS[4:5])[0].sum()), abs=1e-4)


def test_generation_follows_the_prompt_and_the_seed(model: HuggingFaceModel) -> None:
    prompts = [np.array(ids, np.uint16) for ids in ([3, 4], [7], [3, 4])]
    one, two, three = model.generate(prompts, [1, 1, 2], DRAWN)
    assert model.generate([prompts[1]], [1], DRAWN) == [two]
    assert model.generate(prompts[::-1], [2, 1, 1], DRAWN) == [three, two, one]
    assert one != three
    assert all(0 < len(ids) <= DRAWN.max_new_tokens for ids in (one, two, three))


def test_greedy_generation_is_the_greedy_continuation(model: HuggingFaceModel) -> None:
    prompt = np.array([9, 8, 7], np.uint16)
    [ids] = model.generate([prompt], [1], GREEDY)
    assert model.generate([prompt], [2], GREEDY) == [ids]
    begun = np.concatenate([np.array([EOS], np.uint16), prompt])  # it generates from a beginning
    [rated] = model.score_continuations([(begun, np.array(ids, np.uint16))])
    assert rated.is_greedy


def test_a_prompt_is_taken_as_it_is(model: HuggingFaceModel) -> None:
    """Nothing is prepended, as in lm-evaluation-harness."""
    prompt, continuation = np.array([4, 5], np.uint16), np.array([6], np.uint16)
    begun = np.concatenate([np.array([EOS], np.uint16), prompt])
    plain, after_end = model.score_continuations([(prompt, continuation), (begun, continuation)])
    assert plain.nats != pytest.approx(after_end.nats, abs=1e-3)


def test_a_long_prompt_keeps_its_end(model: HuggingFaceModel) -> None:
    long = np.arange(1, 40).astype(np.uint16)
    room = tiny.CONTEXT - DRAWN.max_new_tokens - 1
    assert model.generate([long], [1], GREEDY) != []
    [ids] = model.generate([long], [1], DRAWN)
    assert 0 < len(ids) <= DRAWN.max_new_tokens
    assert room > 0


def test_choice_is_among_the_likeliest_in_proportion() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.25, 0.05]))
    draws = np.random.default_rng(0)
    sampling = GenerationConfig(max_new_tokens=1, temperature=1.0, top_k=3)
    found = np.bincount([sample_token(logits, draws, sampling) for _ in range(4_000)], minlength=4)
    assert found / 4_000 == pytest.approx(np.array([0.1, 0.6, 0.25, 0]) / 0.95, abs=0.03)
    assert sample_token(np.zeros(4), draws, GenerationConfig(1, 0.0, 2)) == 0


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError), match="config"):
        HuggingFaceModel(tmp_path, EOS)
