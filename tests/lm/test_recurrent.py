"""The recurrent families against the formulas of their papers, in plain Python, and against torch's modules."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from lm.checkpoint.marker import MARKER, checkpoint_name
from lm.metrics.logger import read_jsonl
from lm.models.dropout import add_step_key, dropout_keys
from lm.models.recurrent.model import Recurrent
from lm.models.registry import parse_entry
from lm.train.job import TrainJob
from lm.train.loop import train
from tests.lm.corpora import tiny, token_shards
from tests.lm.test_families import model
from tests.train_entry import in_steps

Vector = npt.NDArray[np.float64]
MODULES: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
TOKENS = torch.randint(0, 97, (4, 25), generator=torch.Generator().manual_seed(3))


def sigmoid(x: Vector) -> Vector:
    return np.asarray(1 / (1 + np.exp(-x)))


def step(
    family: str, x: Vector, h: Vector, c: Vector, w: dict[str, Vector]
) -> tuple[Vector, Vector]:
    """One step of Elman 1990, Hochreiter & Schmidhuber 1997, or Cho et al. 2014 in torch's variant."""
    given, own = w["weight_ih"] @ x + w["bias_ih"], w["weight_hh"] @ h + w["bias_hh"]
    if family == "rnn":
        return np.tanh(given + own), c
    if family == "lstm":
        i, f, g, o = np.split(given + own, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (xr, xz, xn), (hr, hz, hn) = np.split(given, 3), np.split(own, 3)
    z = sigmoid(xz + hz)
    return (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h, c


@pytest.mark.parametrize("family", MODULES)
def test_states_are_those_of_the_formula_and_of_torch(family: str) -> None:
    network = model(family)
    tokens = torch.randint(0, 97, (2, 24))
    with torch.no_grad():
        ours = network.hidden_states(tokens)
    weights = {
        name: weight.detach().double().numpy() for name, weight in network.named_parameters()
    }
    rows = weights["embed.weight"][tokens.numpy()]
    for layer in range(2):
        w = {
            n.rpartition(".")[2]: v for n, v in weights.items() if n.startswith(f"blocks.{layer}.")
        }
        for row in rows:
            h = c = np.zeros(32)
            for t in range(len(row)):
                h, c = step(family, row[t], h, c, w)
                row[t] = h
    np.testing.assert_allclose(ours.numpy(), rows, atol=1e-5)

    module = MODULES[family](32, 32, 2, batch_first=True)
    for name, weight in network.named_parameters():
        if name.startswith("blocks."):
            _, layer_name, parameter = name.split(".")
            module.get_parameter(f"{parameter}_l{layer_name}").data.copy_(weight)
    theirs, _ = module(network.embed(tokens))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_forget_gate_of_an_lstm_starts_open() -> None:
    layer: Any = model("lstm").blocks[0]
    assert (layer.bias_ih[32:64] + layer.bias_hh[32:64]).tolist() == [1.0] * 32


def carrying(family: str, **optim: Any) -> Recurrent:
    fields = {
        "name": "x",
        "family": family,
        "model": {"num_layers": 2, "hidden_size": 32, "context_length": 24, "carry_state": True},
        "data": {"train_tokens": 1},
        **optim,
    }
    network = model(family)
    assert isinstance(network, Recurrent)
    network.prepare_training(in_steps(parse_entry(fields)))
    return network


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", MODULES)
def test_a_sequence_goes_on_from_the_state_of_the_one_before(
    family: str, checkpointing: bool
) -> None:
    network = carrying(family, run={"activation_checkpointing": checkpointing})
    inputs, targets = TOKENS[:, :-1], TOKENS[:, 1:]
    whole = network(inputs, targets)
    state = network.initial_state(4)
    assert state is not None
    assert not state.any()
    parts = [
        network(inputs[:, at : at + 8], targets[:, at : at + 8], state=state) for at in (0, 8, 16)
    ]
    torch.testing.assert_close(sum(parts), whole)
    assert not torch.allclose(network(inputs[:, 8:16], targets[:, 8:16]), parts[1])

    # Gradients flow through a sequence, not into the one before it; rows may come in several passes.
    network.zero_grad()
    before = network.initial_state(4)
    assert before is not None
    network(inputs[:, :8], targets[:, :8], state=before)
    passes = before.clone().split(2)
    for half, rows in zip(passes, (slice(2), slice(2, 4)), strict=True):
        network(inputs[rows, 8:16], targets[rows, 8:16], state=half).backward()
    gradients = [weight.grad.clone() for weight in network.parameters() if weight.grad is not None]
    network.zero_grad()
    network(inputs[:, 8:16], targets[:, 8:16], state=before).backward()
    expected = [weight.grad for weight in network.parameters()]
    torch.testing.assert_close(gradients, expected)
    torch.testing.assert_close(torch.cat(passes), before)
    assert before.grad_fn is None


def test_a_state_is_carried_only_if_the_recipe_says_so() -> None:
    assert model("lstm").initial_state(4) is None
    finished = model("lstm")
    finished.prepare_training(tiny(family="lstm", num_heads=None, num_kv_heads=None))
    assert finished.initial_state(4) is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"packing": "concatenate_masked"}, "packing concatenate_masked"),
        ({"mixture": {"web": 1.0}}, "mixture"),
    ],
)
def test_carrying_across_sequences_that_do_not_follow_each_other_is_refused(
    data: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError, match=field):
        carrying("gru", data={"train_tokens": 1, **data})


def test_a_run_that_carries_its_state_is_resumed_to_the_bit(tmp_path: Path) -> None:
    tokens = token_shards(tmp_path / "store")
    config = tiny(family="lstm", carry_state=True, num_heads=None, num_kv_heads=None)
    assert "carry_state" in config.weights_key()["model"]
    job = TrainJob(config, 1, tokens.storage, tmp_path / "run")
    expected, _ = train(job)
    (job.folder / "checkpoints" / checkpoint_name(10) / MARKER).unlink()
    lines = read_jsonl(job.folder / "metrics.jsonl")
    resumed, _ = train(job)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    again = read_jsonl(job.folder / "metrics.jsonl")
    assert [line["loss"] for line in again] == [line["loss"] for line in lines]
    # Without the state, the same checkpoint leads elsewhere.
    plain = tiny(family="lstm", num_heads=None, num_kv_heads=None)
    assert "carry_state" not in plain.weights_key()["model"]
    other, _ = train(TrainJob(plain, 1, tokens.storage, tmp_path / "plain"))
    assert not torch.equal(other["embed.weight"], resumed["embed.weight"])


def regularized(family: str, dropout: float = 0.0, **values: Any) -> Recurrent:
    fields = {
        "name": "x",
        "family": family,
        "model": {"num_layers": 2, "hidden_size": 32, "context_length": 24},
        "data": {"train_tokens": 1},
        "optim": {"dropout": dropout},
        "regularization": values,
    }
    network = model(family)
    assert isinstance(network, Recurrent)
    network.prepare_training(in_steps(parse_entry(fields)))
    return network


def keys_of(step: int, samples: int = 4) -> Tensor:
    return torch.from_numpy(add_step_key(dropout_keys(1, np.arange(samples)), 1, step))


def loss(network: Recurrent, keys: Tensor | None, rows: slice = slice(None)) -> Tensor:
    tokens = TOKENS[rows]
    keys = None if keys is None else keys[rows]
    summed: Tensor = network(tokens[:, :-1], tokens[:, 1:], dropout_keys=keys)
    return summed


@pytest.mark.parametrize("family", MODULES)
def test_a_step_drops_weights_alike_in_any_batch(family: str) -> None:
    network = regularized(family, weight_drop=0.5)
    whole = loss(network, keys_of(1))
    halves = loss(network, keys_of(1), slice(2)) + loss(network, keys_of(1), slice(2, 4))
    torch.testing.assert_close(whole, halves)
    assert not torch.allclose(whole, loss(network, keys_of(2)))
    assert torch.equal(loss(network, None), loss(regularized(family), None))
    # The gradient of a weight that is dropped is zero.
    whole.backward()
    layer: Any = network.blocks[0]
    dropped = (layer.weight_hh.grad == 0).float().mean()
    assert dropped.item() == pytest.approx(0.5, abs=0.05)


def test_dropout_of_states_can_be_the_same_at_all_positions() -> None:
    network = regularized("gru", dropout=0.5, variational=True)
    hidden = network.hidden_states(TOKENS, None, keys_of(1))
    assert torch.equal(hidden == 0, (hidden == 0)[:, :1].expand_as(hidden))
    assert 0.3 < (hidden == 0).float().mean() < 0.7


@torch.no_grad()
@pytest.mark.parametrize("eos", [None, 5])
def test_penalties_are_means_of_squares_of_states_and_of_their_changes(eos: int | None) -> None:
    tokens, targets = TOKENS[:, :-1], TOKENS[:, 1:].clone()
    targets[1, 20:] = -1  # padding
    network = regularized("lstm", ar=2.0, tar=3.0)
    given = {"eos": eos, "dropout_keys": keys_of(1)}
    plain, penalized = (each(tokens, targets, **given) for each in (model("lstm"), network))
    states = network.hidden_states(tokens, eos)
    expected = 0.0
    for row, state in enumerate(states):
        for t in range(24):
            if targets[row, t] < 0:
                continue
            expected += 2.0 * float((state[t] ** 2).mean())
            if t and int(tokens[row, t]) != eos:
                expected += 3.0 * float(((state[t] - state[t - 1]) ** 2).mean())
    assert float(penalized - plain) == pytest.approx(expected, rel=1e-3)
    assert torch.equal(network(tokens, targets, eos=eos), model("lstm")(tokens, targets, eos=eos))


def test_regularized_training_does_not_depend_on_passes_and_off_is_off(tmp_path: Path) -> None:
    tokens = token_shards(tmp_path)
    config = tiny(
        family="lstm", num_heads=None, num_kv_heads=None, train_tokens=4 * 128, log_interval=1
    )
    awd = {"weight_drop": 0.5, "variational": True, "ar": 2.0, "tar": 1.0}
    changes: dict[str, dict[str, dict[str, Any]]] = {
        "plain": {},
        "off": {"regularization": {"weight_drop": 0.0}},
        "whole": {"regularization": awd},
        "passes": {"regularization": awd, "data": {"micro_batch_size": 2}},
    }
    losses: dict[str, list[float]] = {}
    weights: dict[str, Any] = {}
    for name, change in changes.items():
        value = config.to_json()
        for section, own in change.items():
            value[section] = {**value[section], **own}
        entry = in_steps(parse_entry(value))
        folder = tmp_path / name
        weights[name], _ = train(TrainJob(entry, 1, tokens.storage, folder))
        losses[name] = [line["loss"] for line in read_jsonl(folder / "metrics.jsonl")]
        assert ("regularization" in entry.weights_key()) is (name in ("whole", "passes"))
    assert losses["plain"] == losses["off"]
    assert all(torch.equal(weights["plain"][key], weights["off"][key]) for key in weights["off"])
    assert losses["whole"] == pytest.approx(losses["passes"], rel=1e-3)
    assert losses["whole"][0] > losses["plain"][0]
