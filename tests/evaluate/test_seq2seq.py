"""An encoder-decoder as a language model: every token is predicted once, from those before it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.formats.megatron import Tokens
from lm.models.hf_auto import load_model
from lm.scoring.language_model import GenerationConfig, LanguageModel
from lm.scoring.load import LOADERS
from lm.scoring.seq2seq import Seq2SeqModel
from tasks.release.export import TrainedModel, export
from tests.lm.corpora import token_shards
from tests.lm.test_denoising import SEQ2SEQ
from tests.release.test_denoising import far_from_start
from tests.release.test_release import trained_files

EOS, SENTINEL, LENGTH = 0, 300, 4  # 15 % of a context of 24


@pytest.fixture(scope="module", params=SEQ2SEQ)
def folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    made = tmp_path_factory.mktemp("model")
    tokens = token_shards(tmp_path_factory.mktemp("store"))
    files = trained_files(far_from_start(request.param, tied=True), made, tokens)
    export(TrainedModel.from_files(files, EOS), made / "hf")
    return made / "hf"


def by_hand(folder: Path, before: Tokens, piece: Tokens) -> list[float]:
    source = [*before[-(24 - LENGTH) :].tolist(), SENTINEL, EOS]
    read = [EOS, SENTINEL, *piece[:-1].tolist()]
    with torch.no_grad():
        logits = load_model(folder)(
            input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([read])
        ).logits[0, 1:]
    log_p = torch.log_softmax(logits, -1)
    return [-float(log_p[at, token]) for at, token in enumerate(piece)]


def test_every_token_is_scored_once_as_by_hand(folder: Path) -> None:
    model = Seq2SeqModel(folder, EOS)
    documents = [np.random.default_rng(size).integers(1, 300, size) for size in (1, 6, 61)]
    for ids, nats in zip(documents, model.score_texts(documents), strict=True):
        text = np.append(EOS, ids)
        expected = [
            value
            for at in range(1, len(text), LENGTH)
            for value in by_hand(folder, text[:at], text[at : at + LENGTH])
        ]
        assert nats.tolist() == pytest.approx(expected, abs=1e-3)


def test_the_probabilities_of_all_next_tokens_sum_to_one(folder: Path) -> None:
    model: LanguageModel = Seq2SeqModel(folder, EOS)
    prompt = np.array([5, 6, 7])
    every = [(prompt, np.array([token])) for token in range(301)]  # sentinels included
    scored = model.score_continuations(every)
    vocabulary = load_model(folder).config.vocab_size
    assert vocabulary == 301
    assert sum(math.exp(-item.nats) for item in scored) == pytest.approx(1, abs=1e-4)
    assert sum(item.is_greedy for item in scored) == 1
    [empty] = model.score_continuations([(np.array([], int), np.array([5]))])
    assert empty.nats == pytest.approx(model.score_texts([np.array([5])])[0][0], abs=1e-4)


def test_greedy_generation_is_the_greedy_continuation(folder: Path) -> None:
    model = Seq2SeqModel(folder, EOS)
    prompt = np.array([5, 6, 7])
    [made] = model.generate([prompt], [1], GenerationConfig(10, 0.0, 1))
    assert len(made) == 10 or made[-1] == EOS
    assert all(token < SENTINEL for token in made)
    again = model.generate([prompt, prompt], [1, 2], GenerationConfig(10, 1.0, 50))
    assert again[0] == model.generate([prompt], [1], GenerationConfig(10, 1.0, 50))[0]
    assert again[0] != again[1]


def test_the_stage_takes_it_for_what_it_is(folder: Path) -> None:
    assert isinstance(LOADERS["seq2seq"](folder, EOS), Seq2SeqModel)
