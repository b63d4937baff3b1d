"""Everything that a run must find again to go on as if nothing had happened."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from lm.models.causal_lm import CausalLM
from lm.optim.loss_scale import LossScale

Weights = dict[str, Tensor]


@dataclass
class State:
    """The tensors of a run.

    Attributes:
        model: as ``parallel.spread`` left it.
        optimizers: by name.
        scale: of the loss, in fp16.
        ema: the moving average of the weights, if the recipe asks for one.
        best: the weights of the best validation, if training may stop early.
    """

    model: CausalLM
    optimizers: Mapping[str, Optimizer]
    scale: LossScale | None = None
    ema: Weights = field(default_factory=dict)
    best: Weights = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """As ``torch.distributed.checkpoint`` saves it, and loads into it."""
        # For optimizers that have not moved yet torch makes moments by a step on zero gradients,
        # which would count as a step (of AdamW's bias correction) if it were left to stand.
        unmoved = [optimizer for optimizer in self.optimizers.values() if not optimizer.state]
        weights, moments = get_state_dict(self.model, list(self.optimizers.values()))
        for optimizer in unmoved:
            for made in optimizer.state.values():  # what `moments` refers to
                if "step" in made:
                    made["step"].zero_()
            optimizer.state.clear()
        kept = {
            "model": weights,
            "optimizers": moments,
            "ema": self.ema,
            "best": self.best,
        }
        if self.scale is not None:
            kept["scale"] = self.scale.state_dict()
        return kept

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was loaded into a ``state_dict()``."""
        set_state_dict(
            self.model,
            list(self.optimizers.values()),
            model_state_dict=state["model"],
            optim_state_dict=state["optimizers"],
        )
        for mine, theirs in ((self.ema, state["ema"]), (self.best, state["best"])):
            for name, weight in mine.items():
                weight.copy_(theirs[name])
        if self.scale is not None:
            self.scale.load_state_dict(state["scale"])

    @torch.no_grad()
    def update_ema(self, decay: float, step: int) -> None:
        """Move the average towards the weights of a 0-based step: ``a = d a + (1 - d) w``.

        d is ``decay``, and (1 + t) / (10 + t) as long as that is less, so that the weights of the
        beginning are soon forgotten (TensorFlow's ``ExponentialMovingAverage(num_updates=t)``).
        """
        decay = min(decay, (1 + step) / (10 + step))
        for name, weight in self.model.named_parameters():
            self.ema[name].lerp_(weight, 1 - decay)

    @contextmanager
    def eval_weights(self) -> Iterator[nn.Module]:
        """The model with the weights that count: the average if there is one."""
        own = clone_weights(self.model) if self.ema else {}
        if self.ema:
            load_weights_(self.model, self.ema)
        try:
            yield self.model
        finally:
            if isinstance(self.model, FSDPModule):
                self.model.reshard()  # a pass without a backward pass leaves weights gathered
            if self.ema:
                load_weights_(self.model, own)

    @torch.no_grad()
    def save_best(self) -> None:
        """Take the weights that count for the best so far."""
        for name, weight in self.ema.items() or self.model.named_parameters():
            self.best[name].copy_(weight)

    def final_weights(self) -> Weights:
        """What the run is for, on the CPU, whole on the first process and empty on the others."""
        if self.best or self.ema:
            load_weights_(self.model, self.best or self.ema)
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return cast("Weights", get_model_state_dict(self.model, options=options))


def clone_weights(model: nn.Module) -> Weights:
    """A copy of a model's weights, a tied one once."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def load_weights_(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set a model's weights."""
    for name, weight in model.named_parameters():
        weight.copy_(weights[name])
