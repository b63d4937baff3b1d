"""The recurrent families against the formulas of their papers, in plain Python, and against torch's modules."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from tests.lm.test_families import model

Vector = npt.NDArray[np.float64]
MODULES: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


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
