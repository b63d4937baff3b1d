"""Gated convolutions against the formula of Dauphin et al. 2017, in plain Python."""

from typing import Any

import numpy as np
import torch

from tests.lm.test_families import model


def test_states_are_those_of_the_formula() -> None:
    network = model("cnn", kernel_size=3)
    with torch.no_grad():
        for weight in network.parameters():  # biases and norms are 0 and 1 at the start
            weight.add_(torch.randn_like(weight) * 0.1)
    w = {name: weight.detach().double().numpy() for name, weight in network.named_parameters()}
    tokens = torch.randint(0, 97, (12,))
    with torch.no_grad():
        ours = network.hidden_states(tokens[None])[0]

    def norm(x: Any, name: str) -> Any:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w[name]

    x = w["embed.weight"][tokens.numpy()]
    for layer in range(2):
        prefix = f"blocks.{layer}."
        given, out = norm(x, f"{prefix}norm.weight"), x.copy()
        kernel = w[f"{prefix}conv.weight"].reshape(2, 32, 3, 32)  # W and V; row; position; column
        bias = w[f"{prefix}conv.bias"].reshape(2, 32)
        for t in range(len(x)):
            value, gate = bias.copy()
            for back in range(min(3, t + 1)):
                value += kernel[0, :, 2 - back] @ given[t - back]
                gate += kernel[1, :, 2 - back] @ given[t - back]
            out[t] += value / (1 + np.exp(-gate))
        x = out
    np.testing.assert_allclose(ours.numpy(), norm(x, "norm.weight"), atol=1e-5)


def test_a_prediction_depends_on_the_receptive_field_and_on_nothing_before() -> None:
    network: Any = model("cnn", kernel_size=3)
    field = network.config.receptive_field
    assert field == 5
    tokens = torch.randint(0, 97, (1, 12))
    for back in range(12):
        changed = tokens.clone()
        changed[0, 11 - back] = (changed[0, 11 - back] + 1) % 97
        same = torch.equal(network(tokens)[0, 11], network(changed)[0, 11])
        assert same == (back >= field)
