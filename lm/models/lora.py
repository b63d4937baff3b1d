"""Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685): ``y = W x + (alpha / r) B A x``, with W frozen.

Own adapters instead of peft: weights keep their names, so that checkpoints, optimizers, DDP and the export see the
model that they know, with two more matrices per layer; peft renames layers and wraps the model. Both compute the same,
step by step: ``benchmarks.bench_finetune`` compares their losses and their speed.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from infra.errors import UserError
from lm.models.frozen import language_model
from lm.models.neural_lm import TrainableModel


class LoRALinear(nn.Linear):
    """A linear layer with frozen weights and a trainable update of low rank.

    Each of the S matrices that its weights are stacked from (query, key and value) has an update of its own: if they
    had one ``lora_a`` in common, they would read the same r numbers of the input, and learn much more slowly.

    Attributes:
        lora_a: float[S r, inputs], drawn as torch draws linear layers.
        lora_b: float[outputs, r], zero at the start: the layer begins as what it replaces.
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, rows: Sequence[int]) -> None:
        """Take over a layer's weights, which need no gradient from now on; ``rows`` of each stacked matrix."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight.requires_grad_(False), layer.bias
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.scale, self.rows = alpha / rank, tuple(rows)
        self.lora_a = nn.Parameter(torch.empty(len(self.rows) * rank, layer.in_features))
        self.lora_b = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, float[..., outputs]."""
        update = F.linear(F.linear(x, self.lora_a), self._blocks())
        return F.linear(x, self.weight, self.bias) + self.scale * update

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Return a linear layer that computes the same."""
        layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        layer.weight, layer.bias = self.weight, self.bias
        layer.weight += self.scale * (self._blocks() @ self.lora_a)
        return layer

    def _blocks(self) -> Tensor:
        """Return ``lora_b`` with the part of each stacked matrix in columns of its own, float[outputs, S r]."""
        blocks: Tensor = torch.block_diag(*self.lora_b.split(self.rows))
        return blocks


def apply_lora(model: TrainableModel, rank: int, alpha: float, targets: Sequence[str] = ()) -> None:
    """Freeze a language model, or the base of a fine-tuned one, and update its layers by low-rank matrices.

    Blocks that are frozen as a whole (``freeze``) get no update.

    Args:
        model: with the weights that it starts from.
        rank: r.
        alpha: the update is multiplied by ``alpha / rank``.
        targets: names of the blocks' layers, such as ``qkv``; by default all linear layers of the blocks.

    Raises:
        UserError: if the blocks have no such layer.
    """
    found = {
        name.rpartition(".")[2]
        for block in model.layers()
        for name, layer in block.named_modules()
        if isinstance(layer, nn.Linear)
    }
    unknown = sorted(set(targets) - found)
    if unknown or not found:
        names = ", ".join(sorted(found)) or "none: LoRA needs linear layers"
        raise UserError(
            f"lora: {model.config.architecture} has no layer {', '.join(unknown) or 'to update'}; the layers of "
            f"its blocks are: {names}"
        )
    rows = {id(weight): rows for weight, rows in model.weight_matrices()}
    # Blocks that are frozen already stay as they are.
    blocks = [b for b in model.layers() if any(weight.requires_grad for weight in b.parameters())]
    for weight in language_model(model).parameters():
        weight.requires_grad_(False)
    for block in blocks:
        for name, layer in list(block.named_modules()):
            path, _, own = name.rpartition(".")
            if isinstance(layer, nn.Linear) and (not targets or own in targets):
                stacked = rows[id(layer.weight)]
                setattr(block.get_submodule(path), own, LoRALinear(layer, rank, alpha, stacked))


def merge_lora(model: TrainableModel) -> None:
    """Add all updates to the weights that they stand beside; the model computes the same."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, LoRALinear):
                setattr(parent, name, layer.merge())
