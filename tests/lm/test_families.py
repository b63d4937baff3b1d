"""What every family of language models must do beside the decoder, whose tests are in test_model.py."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.tensor import DTensor
from torch.nn import functional as F  # noqa: N812

from lm.config.train import TrainConfig
from lm.distributed.parallel import wrap_data_parallel
from lm.models.neural_lm import NeuralLM
from lm.models.registry import build_model, parse_entry
from tests.train_entry import in_steps

FAMILIES = ("rnn", "lstm", "gru", "cnn")
families = pytest.mark.parametrize("family", FAMILIES)


def model(family: str, vocab_size: int = 97, **section: Any) -> NeuralLM:
    settings = {"num_layers": 2, "hidden_size": 32, "context_length": 24, **section}
    fields = {"name": "x", "family": family, "model": settings, "data": {"train_tokens": 1}}
    entry = in_steps(parse_entry(fields))
    torch.manual_seed(1)
    return build_model(entry.model.resolve(vocab_size))


@families
@pytest.mark.parametrize("tied", [True, False])
def test_an_untrained_model_knows_nothing(family: str, tied: bool) -> None:
    untrained = model(family, 5000, hidden_size=64, tie_embeddings=tied)
    tokens = torch.randint(0, 5000, (8, 33))
    loss = untrained(tokens[:, :-1], tokens[:, 1:]) / tokens[:, 1:].numel()
    assert loss.item() == pytest.approx(math.log(5000), rel=0.01)


@families
def test_a_prediction_does_not_see_what_follows(family: str) -> None:
    tokens = torch.randint(0, 97, (2, 24))
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 97
    network = model(family)
    before, after = network(tokens), network(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@families
def test_every_weight_learns(family: str) -> None:
    network = model(family, tie_embeddings=False)
    tokens = torch.randint(0, 97, (4, 25))
    network(tokens[:, :-1], tokens[:, 1:]).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@families
def test_documents_in_one_row_do_not_see_each_other(family: str) -> None:
    """A row of three documents says of each what the document says alone, and so does a second row."""
    network, eos = model(family), 7
    documents = [torch.tensor([eos, 1, 2, 3]), torch.tensor([eos, 4]), torch.tensor([eos, 5, 6, 8])]
    row = torch.cat(documents)
    together = network(torch.stack([row, row]), eos=eos)
    alone = torch.cat([network(document[None])[0] for document in documents])
    for each in together:
        torch.testing.assert_close(each, alone)
    assert not torch.allclose(network(row[None])[0], alone)
    cut = network(row[None, 1:], eos=eos)[0]  # a row that starts within a document
    torch.testing.assert_close(cut[3:], alone[4:])


@families
@pytest.mark.parametrize("eos", [None, 7])
def test_dropout_depends_on_the_sample_and_not_on_its_batch(family: str, eos: int | None) -> None:
    network = model(family)
    network.dropout = 0.4
    tokens, keys = torch.randint(0, 97, (3, 24)), torch.tensor([1, 2, 3])
    together = network(tokens, eos=eos, dropout_keys=keys)
    alone = torch.cat(
        [
            network(tokens[i : i + 1], eos=eos, dropout_keys=keys[i : i + 1])
            for i in range(len(tokens))
        ]
    )
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, network(tokens, eos=eos))


@families
def test_what_is_made_again_is_what_was_kept(family: str) -> None:
    tokens, keys = torch.randint(0, 97, (3, 25)), torch.tensor([1, 2, 3])
    gradients = []
    for recompute in (False, True):
        network = model(family)
        network.activation_checkpointing, network.dropout = recompute, 0.2
        network(tokens[:, :-1], tokens[:, 1:], dropout_keys=keys).backward()
        gradients.append([weight.grad for weight in network.parameters()])
    for kept, again in zip(*gradients, strict=True):
        assert kept is not None
        assert again is not None
        assert torch.equal(kept, again)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    destroy_process_group()


@pytest.mark.usefixtures("process_group")
@families
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_data_parallel_model_computes_what_the_model_does(family: str, parallel: str) -> None:
    tokens, keys = torch.randint(0, 97, (3, 25)), torch.tensor([1, 2, 3])
    entry = parse_entry(
        {
            "name": "x",
            "family": family,
            "model": {"num_layers": 2, "hidden_size": 32},
            "data": {"train_tokens": 1},
            "run": {"data_parallel": parallel},
        }
    )
    assert isinstance(entry, TrainConfig)
    results = []
    for is_wrapped in (False, True):
        network = model(family)
        network.dropout = 0.2
        call = wrap_data_parallel(network, entry, torch.device("cpu")) if is_wrapped else network
        loss = call(tokens[:, :-1], tokens[:, 1:], eos=7, dropout_keys=keys)
        loss.backward()
        gradients = [weight.grad for weight in network.parameters()]
        whole = [g.full_tensor() if isinstance(g, DTensor) else g for g in gradients]
        results.append([loss.detach(), *whole])
    for plain, wrapped in zip(*results, strict=True):
        torch.testing.assert_close(wrapped, plain)


def train(network: NeuralLM, steps: int, batch: Any) -> float:
    """Train on ``batch(step)``, a pair of inputs and targets; return the last loss per target."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.0)
    loss = torch.tensor(0.0)
    for step in range(steps):
        inputs, targets = batch(step)
        loss = network(inputs, targets) / (targets >= 0).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return loss.item()


@families
def test_one_batch_is_learnt_by_heart(family: str) -> None:
    tokens = torch.randint(0, 97, (4, 13), generator=torch.Generator().manual_seed(0))
    network = model(family, num_layers=1, hidden_size=64)
    assert train(network, 200, lambda _: (tokens[:, :-1], tokens[:, 1:])) < 0.1


DISTANCE = 5


def copy_task(step: int) -> tuple[Tensor, Tensor]:
    """Rows of random letters: what follows is the letter five positions before."""
    letters = torch.randint(0, 8, (32, 24), generator=torch.Generator().manual_seed(step))
    return letters, F.pad(letters[:, :-DISTANCE], (DISTANCE, 0), value=-1)


@families
def test_letters_are_copied_over_a_distance(family: str) -> None:
    """A model without memory has ln 8 = 2.08."""
    num_layers = 2 if family == "cnn" else 1  # convolutions see 1 + 3 * num_layers positions
    network = model(family, 8, num_layers=num_layers, hidden_size=64, tie_embeddings=False)
    assert train(network, 350, copy_task) < 0.2
