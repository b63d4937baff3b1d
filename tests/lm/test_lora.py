"""Low-rank updates, and weights that are frozen."""

from typing import Any

import pytest
import torch
from torch import nn

from infra.errors import UserError
from lm.models.frozen import freeze
from lm.models.lora import LoRALinear, apply_lora, merge_lora
from lm.models.neural_lm import NeuralLM
from tests.lm.test_denoising import model as denoising_model
from tests.lm.test_heads import finetuned, head_config, language_model, padded_texts

WITH_LINEAR_LAYERS = ("llama", "gpt2", "modernbert", "bert", "cnn")


def step(model: Any, targets: torch.Tensor) -> None:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    model(padded_texts(), targets).backward()
    optimizer.step()


@pytest.mark.parametrize("architecture", WITH_LINEAR_LAYERS)
def test_only_low_rank_updates_and_the_head_are_trained(architecture: str) -> None:
    model = finetuned(architecture, head_config("classification"))
    before = {name: weight.clone() for name, weight in model.base.state_dict().items()}
    logits = model(padded_texts())
    apply_lora(model, 4, 8.0)
    torch.testing.assert_close(model(padded_texts()), logits)
    step(model, torch.tensor([[0], [1], [2]]))
    after = model.base.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert not torch.allclose(model(padded_texts()), logits)


@pytest.mark.parametrize("architecture", WITH_LINEAR_LAYERS)
def test_merged_weights_compute_the_same_under_the_same_names(architecture: str) -> None:
    model = finetuned(architecture, head_config("classification"))
    names = set(model.saved_weights())
    apply_lora(model, 4, 8.0)
    step(model, torch.tensor([[0], [1], [2]]))
    logits = model(padded_texts())
    merge_lora(model)
    assert set(model.saved_weights()) == names
    torch.testing.assert_close(model(padded_texts()), logits)
    assert not any(isinstance(layer, LoRALinear) for layer in model.modules())


def test_an_encoder_decoder_is_updated_too() -> None:
    model = denoising_model("t5")
    apply_lora(model, 2, 4.0, ["q", "kv"])
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.split(".")[-1] for name in trained} == {"lora_a", "lora_b"}
    assert len(trained) == 2 * sum(1 for _ in model.layers()) * 3  # the decoder attends twice


def test_targets_choose_the_layers() -> None:
    model = language_model("bert")
    apply_lora(model, 2, 4.0, ["qkv"])
    names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert names == {f"blocks.{n}.qkv.lora_{x}" for n in range(2) for x in "ab"}


@pytest.mark.parametrize(("architecture", "targets"), [("bert", ["q_proj"]), ("lstm", [])])
def test_layers_that_are_not_there_are_refused(architecture: str, targets: list[str]) -> None:
    with pytest.raises(UserError):
        apply_lora(language_model(architecture), 2, 4.0, targets)


def frozen(model: NeuralLM) -> set[str]:
    return {name for name, weight in model.named_parameters() if not weight.requires_grad}


def test_embeddings_and_first_blocks_are_frozen() -> None:
    model = language_model("bert", tie_embeddings=False)
    freeze(model, "embeddings")
    embeddings = {"embed.weight", "position_embedding.weight"}
    embeddings |= {"embed_norm.weight", "embed_norm.bias"}
    assert frozen(model) == embeddings
    freeze(model, 1)
    assert {name.split(".")[1] for name in frozen(model) - embeddings} == {"0"}
    with pytest.raises(UserError):
        freeze(model, 3)


def test_the_update_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    adapted = LoRALinear(layer, 2, 3.0, [5])
    nn.init.normal_(adapted.lora_b)
    x = torch.randn(4, 6)
    update = 3.0 / 2 * adapted.lora_b @ adapted.lora_a
    torch.testing.assert_close(adapted(x), x @ (layer.weight + update).T + layer.bias)


def test_each_stacked_matrix_has_the_update_that_it_would_have_alone() -> None:
    torch.manual_seed(0)
    rows = [6, 4, 4]
    layer = nn.Linear(8, sum(rows))
    adapted = LoRALinear(layer, 2, 3.0, rows)
    nn.init.normal_(adapted.lora_b)
    x = torch.randn(5, 8)
    update = adapted(x) - layer(x)
    for ours, a, b in zip(
        update.split(rows, -1), adapted.lora_a.split(2), adapted.lora_b.split(rows), strict=True
    ):
        torch.testing.assert_close(ours, 3.0 / 2 * x @ a.T @ b.T)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_query_key_and_value_are_updated_apart(architecture: str) -> None:
    model = language_model(architecture)
    before: Any = {name: weight.clone() for name, weight in model.state_dict().items()}
    rows = {id(weight): rows for weight, rows in model.weight_matrices()}
    block: Any = next(iter(model.layers()))
    stacked = rows[id(block.qkv.weight)]
    apply_lora(model, 2, 4.0, ["qkv"])
    nn.init.normal_(block.qkv.lora_b)
    merge_lora(model)
    update = block.qkv.weight - before["blocks.0.qkv.weight"]
    ranks = [int(torch.linalg.matrix_rank(part, rtol=1e-3)) for part in update.split(stacked)]
    assert ranks == [2, 2, 2]
    assert int(torch.linalg.matrix_rank(update, rtol=1e-3)) == 6
