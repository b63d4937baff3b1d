"""Which weights of a model are trained: what keeps its values is given no gradient."""

from typing import Literal

from infra.errors import UserError
from lm.models.heads.model import FineTuned
from lm.models.neural_lm import NeuralLM, TrainableModel


def freeze(model: TrainableModel, what: Literal["embeddings"] | int) -> None:
    """Let the embeddings keep their weights, and with a number also as many of the first blocks.

    A head that is the embedding is frozen with it.
    """
    base = language_model(model)
    blocks = list(base.layers())[: 0 if what == "embeddings" else what]
    if what != "embeddings" and what > len(list(base.layers())):
        raise UserError(
            f"freeze: {what} is more than the model's {len(list(base.layers()))} blocks"
        )
    embeddings = [m for name, m in base.named_children() if "embed" in name]
    for module in (*embeddings, *blocks):
        for weight in module.parameters():
            weight.requires_grad_(False)


def train_embeddings(model: TrainableModel) -> None:
    """Let the embeddings and the output rows be trained, whatever else is frozen.

    Tokens that the base did not have begin with equal rows: frozen, none could be told from another.
    """
    base = language_model(model)
    for layer in (base.embed, base.head):
        layer.requires_grad_(True)


def language_model(model: TrainableModel) -> NeuralLM:
    """Return the model itself, or the base of a fine-tuned one."""
    base = model.base if isinstance(model, FineTuned) else model
    assert isinstance(base, NeuralLM)
    return base
