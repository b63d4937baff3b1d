"""Texts of a batch in groups of about one length: the same results, fewer positions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lm.models.heads import length_groups
from lm.models.heads.config import HeadConfig, Task
from lm.models.heads.length_groups import split_by_length
from lm.models.heads.model import FineTuned, build_finetuned
from lm.objectives.text_rows import LENGTH_MULTIPLE
from tests.lm.corpora import tiny

WIDTH, VOCAB_SIZE = 64, 300


def texts(lengths: list[int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, VOCAB_SIZE, (len(lengths), WIDTH), generator=generator)
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = -1
    return tokens


def watch_widths(monkeypatch: pytest.MonkeyPatch, model: FineTuned) -> list[int]:
    """Return a list that gets the width of each pass through the base."""
    widths: list[int] = []
    original = model.base.text_states

    def spy(tokens_bt: torch.Tensor, keys_b: torch.Tensor | None) -> torch.Tensor:
        widths.append(tokens_bt.shape[1])
        return original(tokens_bt, keys_b)

    monkeypatch.setattr(model.base, "text_states", spy)
    return widths


@pytest.mark.parametrize("task", ["classification", "tagging", "qa", "embedding"])
@pytest.mark.parametrize("family", ["encoder", "decoder", "gru"])
def test_groups_change_neither_results_nor_gradients(
    monkeypatch: pytest.MonkeyPatch, family: str, task: Task
) -> None:
    if task == "qa" and family != "encoder":
        return
    sizes = {"context_length": WIDTH, "num_kv_heads": None, "family": family}
    if family == "gru":
        sizes["num_heads"] = None
    torch.manual_seed(0)
    labels = ("a", "b") if task in ("classification", "tagging") else ()
    model = build_finetuned(tiny(**sizes).model.resolve(VOCAB_SIZE), HeadConfig(task, 0, labels))
    model.base.dropout = 0.1
    tokens = texts([5, 64, 17, 8, 60, 3, 30, 33, 9, 64, 1, 12])
    widths = watch_widths(monkeypatch, model)

    def compute(groups: int) -> tuple[torch.Tensor, list[Any]]:
        monkeypatch.setattr(length_groups, "MAX_GROUPS", groups)
        widths.clear()
        model.zero_grad(set_to_none=True)
        output = model(tokens, dropout_keys=torch.arange(len(tokens)))
        is_text = tokens >= 0
        counted = output[is_text] if output.dim() == 3 else output
        counted.square().sum().backward()
        return counted.detach(), [p.grad for p in model.parameters() if p.grad is not None]

    plain, gradients = compute(1)
    assert widths == [WIDTH]
    grouped, others = compute(8)
    assert len(widths) > 1
    assert widths == sorted(widths)
    torch.testing.assert_close(grouped, plain, rtol=1e-4, atol=1e-5)
    assert len(gradients) == len(others)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


def test_sharded_models_make_one_pass_as_all_processes_have_to_make_as_many(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = build_finetuned(
        tiny(family="encoder", context_length=WIDTH, num_kv_heads=None).model.resolve(VOCAB_SIZE),
        HeadConfig("classification", 0, ("a", "b")),
    )
    widths = watch_widths(monkeypatch, model)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for layer in model.layers():
            fully_shard(layer, mesh=mesh)
        model(texts([5, 64, 17, 8, 60, 3, 30, 33, 9, 64, 1, 12]))
    finally:
        dist.destroy_process_group()
    assert widths == [WIDTH]


@given(st.lists(st.integers(0, WIDTH), min_size=1, max_size=80))
def test_each_text_is_in_a_group_that_is_wide_enough(lengths: list[int]) -> None:
    order, groups = split_by_length(np.array(lengths, np.int64))
    assert sorted(order) == list(range(len(lengths)))
    assert np.concatenate([members for members, _ in groups]).tolist() == order.tolist()
    for members, width in groups:
        assert width >= max(lengths[member] for member in members)
        assert width % LENGTH_MULTIPLE == 0
    whole = len(lengths) * max(width for _, width in groups)
    assert sum(len(members) * width for members, width in groups) <= whole


def test_texts_of_one_length_are_one_group() -> None:
    _, groups = split_by_length(np.full(32, 40))
    assert [(len(members), width) for members, width in groups] == [(32, 40)]
