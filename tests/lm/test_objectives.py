"""Objectives: what is read and predicted is a function of the seed and the sample alone."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.data.loader import build_loader
from lm.models.seq2seq.t5.config import T5Config
from lm.objectives.causal import Causal
from lm.objectives.examples import Examples, Objective, Rows
from lm.objectives.goldfish import Goldfish
from lm.objectives.masked import MaskedTokens
from lm.objectives.span_corruption import SpanCorruption, divide
from tests.lm.corpora import tiny, token_shards

VOCABULARY, EOS = 300, 7
MASK = VOCABULARY
OBJECTIVES: dict[str, Objective] = {
    "causal": Causal(),
    "goldfish": Goldfish(Causal(), 4, 13),
    "masked": MaskedTokens(1, MASK, EOS, 0.15),
    "spans": SpanCorruption(1, EOS, MASK, 2, 1, 0.5),
}


def text(rows: int, length: int = 256) -> Rows:
    return np.random.default_rng(3).integers(0, VOCABULARY, (rows, length + 1))


def tensors(examples: Examples) -> list[torch.Tensor]:
    return [
        examples.inputs,
        examples.targets,
        examples.num_tokens,
        *examples.extra_inputs().values(),
    ]


def test_memory_of_cutting_does_not_grow_with_the_number_of_spans() -> None:
    rows, samples = text(32, 1024), np.arange(32)

    def peak(spans: int) -> int:
        cut = SpanCorruption(1, EOS, MASK, 300, spans, 0.0)
        tracemalloc.start()
        cut(rows, samples)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(200) < 1.5 * peak(1)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_examples_do_not_depend_on_batches_or_processes(tmp_path: Path, name: str) -> None:
    tokens, config = token_shards(tmp_path), tiny()

    def examples(rank: int, world_size: int, start: int) -> list[Examples]:
        loader = build_loader(config, tokens, 1, rank, world_size, tmp_path / "cache", start)
        batches = [next(loader) for _ in range(start, 5)]
        loader.close()
        return [OBJECTIVES[name](batch.rows, batch.samples) for batch in batches]

    alone = examples(0, 1, 0)
    first, second = examples(0, 2, 0), examples(1, 2, 0)
    for whole, *halves in zip(alone, first, second, strict=True):
        for expected, *parts in zip(tensors(whole), *map(tensors, halves), strict=True):
            assert torch.equal(torch.cat(parts), expected)
    for expected, resumed in zip(alone[3:], examples(0, 1, 3), strict=True):
        assert all(map(torch.equal, tensors(expected), tensors(resumed)))


def test_bert_s_share_of_tokens_is_masked_replaced_and_left() -> None:
    rows = text(400)
    made = OBJECTIVES["masked"](rows, np.arange(400))
    own = torch.from_numpy(rows[:, 1:])
    assert made.positions is not None
    assert made.targets.shape == made.positions.shape == (400, round(0.15 * 256))
    assert (made.num_tokens == 256).all()
    assert torch.equal(own.gather(1, made.positions), made.targets)
    assert (made.targets != EOS).all()
    shown = made.inputs.gather(1, made.positions)
    is_masked, is_left = shown == MASK, shown == made.targets
    assert is_masked.float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert is_left.float().mean().item() == pytest.approx(0.1, abs=0.01)
    replaced = shown[~is_masked & ~is_left]
    assert (replaced != EOS).all()
    assert len(replaced.unique()) > VOCABULARY - 12  # any other token, of 1,520 draws
    others = torch.ones_like(own, dtype=torch.bool).scatter(1, made.positions, value=False)
    assert torch.equal(made.inputs[others], own[others])
    counts = torch.zeros(256).index_add(0, made.positions.flatten(), torch.ones(400 * 38))
    assert counts.min() > 30  # about 59 each


def test_another_epoch_masks_other_tokens_and_another_seed_too() -> None:
    rows, samples = text(4), np.arange(4)
    made = OBJECTIVES["masked"](rows, samples)
    for other in (
        OBJECTIVES["masked"](rows, samples + 4),
        MaskedTokens(2, MASK, EOS, 0.15)(rows, samples),
    ):
        assert not torch.equal(made.inputs, other.inputs)


def test_padding_is_never_predicted_and_a_short_row_has_its_share() -> None:
    rows = text(2, 40)
    rows[0, 11:] = -1
    rows[0, 10] = EOS
    rows[1, 1:] = -1
    made = OBJECTIVES["masked"](rows, np.arange(2))
    assert made.positions is not None
    assert (made.targets >= 0).sum(1).tolist() == [2, 0]  # 15 % of nine, and of none
    assert (made.positions[0][made.targets[0] >= 0] < 9).all()
    assert made.num_tokens.tolist() == [10, 0]
    assert (made.inputs[0, 9:] == EOS).all()
    assert (made.inputs[1] == EOS).all()


def test_a_passage_that_comes_again_has_goldfish_gaps_in_the_same_places() -> None:
    k, context = 4, 13
    goldfish = Goldfish(Causal(), k, context)
    rows, samples = text(50), np.arange(50)
    made = goldfish(rows, samples)
    all_targets = torch.from_numpy(rows[:, 1:])
    is_dropped = made.targets < 0
    assert torch.equal(made.targets[~is_dropped], all_targets[~is_dropped])
    assert torch.equal(made.inputs, torch.from_numpy(rows[:, :-1]))
    assert not is_dropped[:, : context - 1].any(), "too few tokens before them"
    assert is_dropped[:, context - 1 :].float().mean().item() == pytest.approx(1 / k, abs=0.02)

    moved = np.concatenate([text(50, 8)[:, :7], rows], 1)
    again = goldfish(moved, samples + 1000).targets < 0
    assert torch.equal(again[:, 7 + context - 1 :], is_dropped[:, context - 1 :])
    changed = rows.copy()
    changed[:, 100] = (changed[:, 100] + 1) % VOCABULARY
    other = goldfish(changed, samples).targets < 0
    # Target t is row t + 1, which the tokens [t + 1 - context, t] of its row decide.
    differs = (other != is_dropped).any(0).nonzero().flatten()
    assert set(differs.tolist()) == set(range(100, 100 + context))


def test_rows_shorter_than_the_goldfish_context_lose_nothing() -> None:
    rows = text(3, 10)
    made = Goldfish(Causal(), 2, 13)(rows, np.arange(3))
    assert torch.equal(made.targets, torch.from_numpy(rows[:, 1:]))


SPANS = SpanCorruption(1, EOS, MASK, num_noise_tokens=38, num_spans=13, prefix_fraction=0.0)


def restored(source: list[int], target: list[int]) -> list[int]:
    """Put each span of the target where its sentinel is in the source."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token >= MASK:
            spans[token] = []
        elif token >= 0:
            spans[list(spans)[-1]].append(token)
    return [word for token in source if token >= 0 for word in spans.get(token, [token])]


def test_source_and_target_together_are_the_text() -> None:
    rows = text(60)
    made = SPANS(rows, np.arange(60))
    assert made.source is not None
    assert made.source.shape == (60, 256 - 38 + 13 + 1)
    assert made.targets.shape == made.inputs.shape == (60, 38 + 13 + 1)
    assert torch.equal(made.inputs[:, 1:], made.targets[:, :-1])
    assert (made.inputs[:, 0] == EOS).all()
    for row, source, target in zip(rows, made.source.tolist(), made.targets.tolist(), strict=True):
        assert source[-1] == target[-1] == EOS
        assert [token for token in source if token >= MASK] == list(range(MASK, MASK + 13))
        assert restored(source[:-1], target[:-1]) == row[1:].tolist()


def test_a_prefix_is_continued_from_any_place() -> None:
    rows = text(200)
    continued = SpanCorruption(1, EOS, MASK, 38, 13, prefix_fraction=1.0)
    made = continued(rows, np.arange(200))
    assert made.source is not None
    assert made.source.shape == (200, 232)
    cuts = []
    for row, source, target in zip(rows, made.source.tolist(), made.targets.tolist(), strict=True):
        prefix = source[: source.index(MASK)]
        assert source[len(prefix) :] == [MASK, EOS] + [-1] * (230 - len(prefix))
        own = row[1:].tolist()
        assert target == [MASK, *own[len(prefix) : len(prefix) + 38]] + [-1] * 13
        assert prefix == own[: len(prefix)]
        cuts.append(len(prefix))
    assert (min(cuts) < 10, max(cuts) > 208) == (True, True)
    mixed = SpanCorruption(1, EOS, MASK, 38, 13, prefix_fraction=0.5)(rows, np.arange(200))
    fraction = (mixed.targets == -1).any(1).float().mean().item()
    assert fraction == pytest.approx(0.5, abs=0.1)


def test_padding_of_a_row_is_not_predicted() -> None:
    rows = text(2)
    rows[0, 101:] = -1
    rows[1, 1:] = -1
    made = SPANS(rows, np.arange(2))
    assert made.source is not None
    assert made.num_tokens.tolist() == [100, 0]
    assert 0 < (made.targets[0] >= 0).sum() < 52
    assert (made.targets[1] == -1).all()


def test_every_way_to_divide_is_equally_likely() -> None:
    draws = np.random.default_rng(0).integers(0, 2**63, (6000, 4)).astype(np.uint64)
    parts = divide(draws, 3)
    assert (parts.sum(1) == 5).all()
    _, counts = np.unique(parts, axis=0, return_counts=True)
    assert len(counts) == 6  # of five things into three parts of at least one
    assert counts.min() > 900
    assert divide(draws[:2, :0], 1).tolist() == [[1], [1]]


@pytest.mark.parametrize("prefix_fraction", [0.0, 0.5, 1.0])
def test_no_rows_give_no_examples(prefix_fraction: float) -> None:
    """As of shards without a validation split."""
    objective = SpanCorruption(1, EOS, MASK, 3, 2, prefix_fraction)
    none = objective(np.zeros((0, 25), np.int64), np.arange(0))
    assert none.inputs.shape == none.targets.shape == (0, 3 + 2 + 1)


def test_spans_are_never_more_than_the_tokens_between_them() -> None:
    entry = {"architecture": "t5", "num_layers": 1, "hidden_size": 16, "num_heads": 1}
    entry |= {"context_length": 11, "noise_density": 0.5}
    config = T5Config.model_validate({**entry, "mean_span_length": 1.0}).resolve(50)
    objective = SpanCorruption(1, EOS, 50, config.num_noise_tokens, config.num_sentinels, 0.0)
    rows = np.random.default_rng(0).integers(8, 50, (4, 12))
    assert (objective(rows, np.arange(4)).targets >= 50).sum() == 4 * config.num_sentinels
