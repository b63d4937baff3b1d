"""The tensors of a training run: everything that a resumed run needs to continue to the bit."""

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

from lm.models.neural_lm import TrainableModel
from lm.optim.loss_scale import LossScale

Weights = dict[str, Tensor]


@dataclass
class State:
    """The training state.

    Attributes:
        model: as ``parallel.parallelize`` left it.
        optimizers: by name.
        scale: loss scale, in fp16.
        ema: moving average of the weights; empty without ``ema_decay``.
        best: weights of the best validation; empty without early stopping.
        carried: what the next batch starts from, float[rows of a step, ...], if the model carries a
            state from batch to batch; a ``DTensor`` of which each process has its rows.
    """

    model: TrainableModel
    optimizers: Mapping[str, Optimizer]
    scale: LossScale | None = None
    ema: Weights = field(default_factory=dict)
    best: Weights = field(default_factory=dict)
    carried: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return references to all of it, as ``torch.distributed.checkpoint`` saves and loads it."""
        # For an optimizer without steps, torch makes its state by a step on zero gradients. That
        # would count as a step of AdamW's bias correction, so it is reset.
        fresh = [optimizer for optimizer in self.optimizers.values() if not optimizer.state]
        weights, moments = get_state_dict(self.model, list(self.optimizers.values()))
        for optimizer in fresh:
            for values in optimizer.state.values():  # `moments` refers to these tensors
                if "step" in values:
                    values["step"].zero_()
            optimizer.state.clear()
        state = {"model": weights, "optimizers": moments, "ema": self.ema, "best": self.best}
        if self.scale is not None:
            state["scale"] = self.scale.state_dict()
        if self.carried is not None:
            state["carried"] = self.carried
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what was loaded into a ``state_dict()``."""
        set_state_dict(
            self.model,
            list(self.optimizers.values()),
            model_state_dict=state["model"],
            optim_state_dict=state["optimizers"],
        )
        for own, loaded in ((self.ema, state["ema"]), (self.best, state["best"])):
            for name, weight in own.items():
                weight.copy_(loaded[name])
        if self.scale is not None:
            self.scale.load_state_dict(state["scale"])
        if self.carried is not None:
            self.carried.copy_(state["carried"])

    @torch.no_grad()
    def update_ema(self, decay: float, step: int) -> None:
        """Move the average towards the weights after a 0-based step: ``a = d a + (1 - d) w``.

        d is ``decay``, or (1 + t) / (10 + t) while that is smaller, so that the average soon
        forgets the first weights (TensorFlow's ``ExponentialMovingAverage(num_updates=t)``).
        """
        decay = min(decay, (1 + step) / (10 + step))
        for name, weight in self.model.named_parameters():
            self.ema[name].lerp_(weight, 1 - decay)

    @contextmanager
    def eval_weights(self) -> Iterator[nn.Module]:
        """Yield the model with the weights to evaluate: the average, if there is one."""
        own = clone_weights(self.model) if self.ema else {}
        if self.ema:
            load_weights_(self.model, self.ema)
        try:
            yield self.model
        finally:
            if isinstance(self.model, FSDPModule):
                self.model.reshard()  # only a backward pass does this by itself
            if self.ema:
                load_weights_(self.model, own)

    @torch.no_grad()
    def save_best(self) -> None:
        """Save the current (or averaged) weights as the best so far."""
        for name, weight in self.ema.items() or self.model.named_parameters():
            self.best[name].copy_(weight)

    def final_weights(self) -> Weights:
        """Return the best, averaged or last weights: whole, on the CPU of the first process only."""
        if self.best or self.ema:
            load_weights_(self.model, self.best or self.ema)
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return cast("Weights", get_model_state_dict(self.model, options=options))


def clone_weights(model: nn.Module) -> Weights:
    """Return a copy of a model's weights; a tied one is there once."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def load_weights_(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set a model's weights in place."""
    for name, weight in model.named_parameters():
        weight.copy_(weights[name])
