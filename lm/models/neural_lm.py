"""What training needs of a model of any family, and a model's weights as a file.

A model knows nothing of devices, processes or data. Shape letters: B sequences, T positions,
D hidden size, V vocabulary, N = B * T.
"""

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import torch
from safetensors.torch import load, save_file
from torch import Tensor, nn

from lm.models.cross_entropy import cross_entropy
from lm.objectives.causal import Causal
from lm.objectives.examples import Objective

if TYPE_CHECKING:
    from lm.config.loop import LoopConfig

WEIGHTS = "model.safetensors"
HEAD = "head.weight"  # not in the file if it is the embedding
HEAD_BIAS = "head.bias"


class ArchitectureConfig(Protocol):
    """A frozen dataclass that fixes the parameters and the function of one family's model."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def architecture(self) -> str:
        """The package that holds the model: the family, or one of the decoder's architectures."""

    @property
    def vocab_size(self) -> int:
        """V: number of token ids."""

    @property
    def hidden_size(self) -> int:
        """D: width of the embedding and of what the head reads."""

    @property
    def context_length(self) -> int:
        """Maximum number of positions."""

    @property
    def tie_embeddings(self) -> bool:
        """Whether the head is the embedding."""


class TrainableModel(nn.Module):
    """What the training loop calls: token ids in, the summed loss out.

    Attributes:
        config: what the model, or the language model that it stands on, was built from.
    """

    config: ArchitectureConfig

    @abstractmethod
    def prepare_training(self, config: "LoopConfig") -> None:
        """Set what an entry of the recipe says of training, beside the architecture."""

    @abstractmethod
    def layers(self) -> Iterable[nn.Module]:
        """Return the layers that FSDP shards one by one."""

    @abstractmethod
    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the blocks' matrices, and the rows of those that each is stacked from.

        Weight decay and Muon act on them.
        """

    @abstractmethod
    def flops_per_token(self) -> float:
        """Return the floating point operations of training per token: forward and backward."""

    @abstractmethod
    def saved_weights(self) -> dict[str, Tensor]:
        """Return the weights that are written to a file, each once."""

    def initial_state(self, sequences: int) -> Tensor | None:  # noqa: ARG002
        """Return what the first batch of a run starts from, float[sequences, ...].

        ``None``: nothing is carried from batch to batch.
        """
        return None


class NeuralLM(TrainableModel):
    """Token ids in, logits or the summed loss out.

    Attributes:
        dropout: fraction of the residual stream's inputs that training drops.
        activation_checkpointing: whether the backward pass recomputes the blocks' activations
            instead of keeping them (Chen et al. 2016, arXiv:1604.06174).
    """

    dropout: float = 0.0
    activation_checkpointing: bool = False

    def __init__(
        self,
        config: ArchitectureConfig,
        blocks: list[nn.Module],
        norm: nn.Module,
        *,
        head_bias: bool = False,
    ) -> None:
        """Add the embedding and the head to a family's own layers."""
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=head_bias)
        if config.tie_embeddings:
            self.head.weight = self.embed.weight

    def prepare_training(self, config: "LoopConfig") -> None:
        """Set what an entry of the recipe says of training, beside the architecture."""
        self.dropout = config.optim.dropout
        self.activation_checkpointing = config.run.activation_checkpointing

    def layers(self) -> Iterable[nn.Module]:
        """Return the layers that FSDP shards one by one."""
        return self.blocks

    @abstractmethod
    def hidden_states(
        self, tokens_bt: Tensor, eos: int | None = None, dropout_keys_b: Tensor | None = None
    ) -> Tensor:
        """Return what the head reads, float[B, T, D]; arguments as in ``forward``."""

    def text_states(self, tokens_bt: Tensor, dropout_keys_b: Tensor | None = None) -> Tensor:
        """Return the last hidden states of texts, float[B, T, D], which heads of other tasks read.

        Ids below zero are padding on the right. A model that reads from left to right has not seen it
        at any position of the text; what is returned at the padding itself means nothing.
        """
        return self.hidden_states(tokens_bt.clamp_min(0), None, dropout_keys_b)

    def objective(self, seed: int, eos: int) -> Objective:  # noqa: ARG002
        """Return how the rows of a run with this seed become what the model reads and predicts."""
        return Causal()

    def reference_inputs(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return an input of one row, by which an export is checked: ids, and what else is read."""
        c = self.config
        return torch.randint(0, c.vocab_size, (1, c.context_length), generator=generator), {}

    def forward(
        self,
        tokens_bt: Tensor,
        targets_bt: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        eos: int | None = None,
        dropout_keys: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Return logits float[B, T, V] or, given targets int64[B, K], their summed loss in nats.

        Targets below zero are not counted. With targets the logits are computed and used in
        chunks, so that they never exist all at once.

        Args:
            tokens_bt: ids.
            targets_bt: the ids to predict.
            positions: int64[B, K], at which of the T positions; ``None``: at each.
            eos: if given, a position that holds this id starts a document: nothing attends across
                it, and positions are counted from it.
            dropout_keys: int64[B], what each sample's dropout is drawn from; ``None``: no dropout.
            label_smoothing: see ``cross_entropy``.
        """
        hidden_btd = self.hidden_states(tokens_bt, eos, dropout_keys)
        return self.predict(hidden_btd, targets_bt, positions, label_smoothing)

    def predict(
        self,
        hidden_btd: Tensor,
        targets_bt: Tensor | None,
        positions: Tensor | None,
        label_smoothing: float,
    ) -> Tensor:
        """Return the head's logits or, given targets, their summed loss; see ``forward``."""
        hidden_btd = select_positions(hidden_btd, positions)
        if targets_bt is None:
            return cast("Tensor", self.head(hidden_btd))
        hidden_nd, targets_n = hidden_btd.flatten(0, 1), targets_bt.flatten()
        bias: Tensor | None = self.head.bias
        return cross_entropy(hidden_nd, self.head.weight, targets_n, label_smoothing, bias)

    def saved_weights(self) -> dict[str, Tensor]:
        """Return the weights by name, without a tied head."""
        weights: dict[str, Tensor] = self.state_dict()
        if self.config.tie_embeddings:
            weights.pop(HEAD)
        return weights


def select_positions(hidden_btd: Tensor, positions_bk: Tensor | None) -> Tensor:
    """Return the vectors at some positions of each row, float[B, K, D]; ``None``: at all."""
    if positions_bk is None:
        return hidden_btd
    return hidden_btd.gather(1, positions_bk.unsqueeze(-1).expand(-1, -1, hidden_btd.shape[-1]))


def save_weights(model: TrainableModel, path: Path) -> None:
    """Write the weights in fp32 under the training model's names, without a tied head."""
    save_file({name: weight.contiguous() for name, weight in model.saved_weights().items()}, path)


def load_weights(model: NeuralLM, data: bytes) -> None:
    """Set a model's weights to those that ``save_weights`` wrote of one of the same architecture."""
    weights = load(data)
    if model.config.tie_embeddings:
        weights[HEAD] = weights["embed.weight"]
    model.load_state_dict(weights)
