"""What all layouts of a decoder share: the shape, the way in and the way out.

A model knows nothing of devices, processes or data. Shape letters: B sequences, T positions,
D width, H query heads, K key/value heads, E head width, F hidden width of the feed-forward,
V vocabulary.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lm.models.attention import Segments, document_segments
from lm.models.cross_entropy import cross_entropy
from lm.models.dropout import dropout, site_keys

Architecture = Literal["llama", "gpt2"]


@dataclass(frozen=True)
class DecoderConfig:
    """What fixes a decoder's parameters and its function.

    Attributes:
        vocab_size: V.
        num_layers: number of blocks.
        hidden_size: D.
        num_heads: H.
        num_kv_heads: K; a divisor of H.
        ffn_size: F.
        context_length: positions at most.
        tie_embeddings: whether the head is the embedding.
        architecture: names the class that makes a model of it (``registry.build_model``).
        bias: whether matrices and norms have one (GPT-2's layout).
        rope_theta: base of the rotary angles (Llama's layout).
        norm_eps: what is added under a norm's root.
    """

    vocab_size: int
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    ffn_size: int
    context_length: int
    tie_embeddings: bool = True
    architecture: Architecture = "llama"
    bias: bool = False
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """E: the width of one attention head."""
        return self.hidden_size // self.num_heads


class Decoder(nn.Module):
    """Token ids in, logits or the summed loss out.

    Attributes:
        config: what it was built from.
        dropout: share of the residual stream's inputs that training leaves out.
        activation_checkpointing: whether the backward pass makes blocks' activations again instead of having
            kept them (Chen et al. 2016, arXiv:1604.06174).
    """

    dropout: float = 0.0
    activation_checkpointing: bool = False

    def __init__(self, config: DecoderConfig, blocks: list[nn.Module], norm: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embed.weight

    def init_weights(self) -> None:
        """GPT-2's rule: normal(0, 0.02), projections into the residual by 1/sqrt(2 layers)."""
        into_residual = 0.02 / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                scaled = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=into_residual if scaled else 0.02)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """The blocks' matrices, which decay, and the rows of those that each is stacked from."""
        return [pair for block in self.blocks for pair in cast("Any", block).weight_matrices()]

    @abstractmethod
    def embed_inputs(self, tokens_bt: Tensor, segments: Segments) -> tuple[Tensor, Any]:
        """The residual stream before the first block, and what each block takes besides it."""

    def hidden_states(
        self, tokens_bt: Tensor, eos: int | None = None, dropout_keys_b: Tensor | None = None
    ) -> Tensor:
        """The residual stream after the last norm, float[B, T, D]."""
        where = document_segments(tokens_bt, eos)
        x_btd, beside = self.embed_inputs(tokens_bt, where)
        # Keys of the embedding and of each sublayer. Blocks are given theirs: a number of their own
        # would be compiled into each of them apart.
        places = range(2 * len(self.blocks) + 1)
        keys = [
            None if dropout_keys_b is None else site_keys(dropout_keys_b, place) for place in places
        ]
        x_btd = dropout(x_btd, keys[0], self.dropout)
        for number, block in enumerate(self.blocks):
            given = beside, where, keys[2 * number + 1 : 2 * number + 3], self.dropout
            if self.activation_checkpointing and torch.is_grad_enabled():
                x_btd = cast("Tensor", checkpoint(block, x_btd, *given, use_reentrant=False))
            else:
                x_btd = block(x_btd, *given)
        return cast("Tensor", self.norm(x_btd))

    def forward(
        self,
        tokens_bt: Tensor,
        targets_bt: Tensor | None = None,
        *,
        eos: int | None = None,
        dropout_keys: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Logits float[B, T, V], or, given targets int64[B, T], their summed loss in nats.

        Targets below zero are left out of the sum. With targets the logits are made and used in
        chunks, never whole.

        Args:
            tokens_bt: ids.
            targets_bt: the ids that follow.
            eos: if given, a position that holds this id begins a document: nothing before it is
                looked at from it or after it, and positions are counted from it.
            dropout_keys: int64[B], what each sample's dropout is drawn from; ``None``: no dropout.
            label_smoothing: label smoothing, see ``loss.cross_entropy``.
        """
        hidden_btd = self.hidden_states(tokens_bt, eos, dropout_keys)
        if targets_bt is None:
            return cast("Tensor", self.head(hidden_btd))
        flat_nd, targets_n = hidden_btd.flatten(0, 1), targets_bt.flatten()
        return cross_entropy(flat_nd, self.head.weight, targets_n, label_smoothing)
