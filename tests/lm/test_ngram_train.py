import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from infra.dataset.dataset import Dataset
from infra.formats.megatron import TRAIN, VALIDATION, TokenShards, read_split
from lm.models.ngram import train
from lm.models.ngram.arpa import write_arpa
from lm.models.ngram.config import NgramConfig, NgramEntry
from lm.models.ngram.estimate import estimate_model
from lm.models.ngram.files import MODEL_FILE, load_model
from lm.models.ngram.model import NgramModel
from lm.models.ngram.windows import WindowFormat
from tests.lm import corpora

NAMES = ("words", "discounted", "children", "backoff")


def count(root: Path, tokens: Dataset, **settings: Any) -> Dataset:
    ctx = corpora.context(root)
    config = NgramEntry(name="counted", family="ngram", model=NgramConfig(**settings))
    return train.build(ctx, train.spec(ctx, config, tokens), config, tokens)


def load(model: Dataset) -> NgramModel:
    path = model.storage.local_path(model.manifest.files[MODEL_FILE].name)
    assert path is not None
    return load_model(path.parent)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return corpora.token_shards(tmp_path_factory.mktemp("tokens"))


@pytest.mark.parametrize(("order", "prune"), [(1, (0,)), (2, (0,)), (4, (0, 0, 1))])
def test_ranges_of_any_size_give_the_model_of_all_windows_at_once(
    tmp_path: Path,
    tokens: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    order: int,
    prune: tuple[int, ...],
) -> None:
    whole = count(tmp_path / "whole", tokens, order=order, prune=prune)
    monkeypatch.setattr(train, "RANGE_WINDOWS", 500)
    monkeypatch.setattr(train, "SAMPLE_INTERVAL", 8)
    divided = count(tmp_path / "divided", tokens, order=order, prune=prune)
    assert divided.content == whole.content
    window = WindowFormat(300, 0, max(order, 2))
    ids = np.concatenate([read_split(part, "uint16", TRAIN) for part in tokens.parts])
    at_once = estimate_model(
        window.pack(ids), window, NgramConfig(order=order, prune=prune).prune_by_order
    )
    ours = load(whole)
    assert ours.sizes == at_once.sizes
    for name in NAMES:
        assert getattr(ours, name).tobytes() == getattr(at_once, name).tobytes(), name
    assert sorted(load_file(ours_path(whole))) == sorted(NAMES)


def ours_path(model: Dataset) -> Path:
    path = model.storage.local_path(model.manifest.files[MODEL_FILE].name)
    assert path is not None
    return path


def test_a_run_that_was_killed_counts_only_the_ranges_that_are_missing(
    tmp_path: Path, tokens: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = count(tmp_path / "whole", tokens, order=3)
    monkeypatch.setattr(train, "RANGE_WINDOWS", 500)
    calls, count_range = [], train.count_range

    def fail_at_the_third(job: train.CountingJob, number: int) -> list[int]:
        calls.append(number)
        if len(calls) == 3:
            raise RuntimeError
        return count_range(job, number)

    monkeypatch.setattr(train, "count_range", fail_at_the_third)
    with pytest.raises(RuntimeError):
        count(tmp_path / "killed", tokens, order=3)
    resumed = count(tmp_path / "killed", tokens, order=3)
    assert resumed.content == whole.content
    assert calls[:4] == [0, 1, 2, 2]
    assert len(set(calls)) == len(calls) - 1


def read_arpa(text: str) -> dict[tuple[str, ...], tuple[float, float]]:
    """Read an ARPA file: log10 of probability and backoff weight of each n-gram."""
    grams: dict[tuple[str, ...], tuple[float, float]] = {}
    sizes: dict[int, int] = {}
    for line in text.splitlines():
        if line.startswith("ngram "):
            order, size = line.removeprefix("ngram ").split("=")
            sizes[int(order)] = int(size)
        elif "\t" in line:
            fields = line.split("\t")
            grams[tuple(fields[1].split())] = (float(fields[0]), float([*fields, "0"][2]))
    for length, total in sizes.items():
        assert sum(len(gram) == length for gram in grams) == total
    return grams


@pytest.mark.parametrize(("order", "prune"), [(1, (0,)), (3, (0, 0, 1)), (5, (0,))])
def test_the_arpa_file_gives_the_same_probabilities(
    tmp_path: Path, tokens: Dataset, order: int, prune: tuple[int, ...]
) -> None:
    model = load(count(tmp_path, tokens, order=order, prune=prune))
    file = io.BytesIO()
    write_arpa(model, file)
    grams = read_arpa(file.getvalue().decode())

    def score(context: tuple[str, ...], word: str) -> float:
        gram = (*context, word)
        if gram in grams:
            return grams[gram][0]
        return grams.get(context, (0, 0))[1] + score(context[1:], word)

    document = TokenShards(tokens, VALIDATION).read_document(0)
    history = ["<s>"]
    for word, nats in zip(document.tolist(), model.score(document), strict=True):
        name = str(word) if word else "</s>"
        context = tuple(history[max(0, len(history) - order + 1) :]) if order > 1 else ()
        assert score(context, name) * -math.log(10) == pytest.approx(nats, abs=1e-5)
        history.append(name)


def test_a_markov_source_is_learnt_to_its_entropy(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vocabulary, order = 6, 2  # two tokens decide the next one
    table = rng.dirichlet(np.full(vocabulary - 1, 0.4), (vocabulary, vocabulary))
    entropy, ids = [], [0, 0]
    while len(ids) < 200_000:
        chances = table[ids[-2], ids[-1]]
        word = 1 + int(np.searchsorted(chances.cumsum(), rng.random()))
        word = min(word, vocabulary - 1)
        entropy.append(-math.log(chances[word - 1]))
        ids.append(word)
    half = len(ids) // 2
    window = WindowFormat(vocabulary, 0, order + 2)
    model = estimate_model(window.pack(np.array([*ids[2:half], 0])), window, (0,) * (order + 2))
    held_out = model.score(np.array(ids[half:]))[order:].mean()
    assert held_out == pytest.approx(np.mean(entropy[half:]), rel=0.01)
    shorter = estimate_model(window.pack(np.array([*ids[2:half], 0])), window, (0,) * order)
    assert shorter.score(np.array(ids[half:])).mean() > 1.05 * held_out
