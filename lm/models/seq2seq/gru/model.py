"""The GRU encoder-decoder with additive attention (Bahdanau, Cho & Bengio 2015, arXiv:1409.0473).

    h_j  = [GRU(x_1 .. x_j); GRU(x_S .. x_j)]      the encoder reads the source in both directions
    e_tj = v . tanh(W s_(t-1) + U h_j)             how well position j of the source suits step t
    c_t  = sum over j of softmax(e_t)_j h_j
    s_t  = GRU([y_t; c_t], s_(t-1))                y_t: embedding of the token that the decoder reads
    o_t  = maxout(R [s_t; y_t; c_t])               what the head reads; maxout: the larger of two halves

Unlike in the paper, o_t has s_t in place of s_(t-1). Further layers of the decoder read the states of the
layer below, and the last one's are in o_t. Shape letters as in ``lm.models.seq2seq.model``, and E = 2 D.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lm.models.dropout import dropout, site_keys
from lm.models.seq2seq.gru.layers import AttentionLayer, EncoderLayer, GRULayer, reverse_positions
from lm.models.seq2seq.model import Seq2Seq
from lm.models.seq2seq.sections import Seq2SeqConfig


class GRUSeq2Seq(Seq2Seq):
    """The model; its first blocks are the encoder's, the next one attends."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        size, more = config.hidden_size, config.num_layers - 1
        blocks = [
            EncoderLayer(size, size),
            *(EncoderLayer(2 * size, size) for _ in range(more)),
            AttentionLayer(size),
            *(GRULayer(size, size) for _ in range(more)),
        ]
        super().__init__(config, blocks, nn.Identity())
        self.start = nn.Linear(size, config.num_layers * size)
        self.readout = nn.Linear(4 * size, 2 * size)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the embedding and the head as the recurrent families do, the rest as torch does."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
            elif isinstance(module, GRULayer):
                bound = 1 / math.sqrt(self.config.hidden_size)
                for parameter in module.parameters(recurse=False):
                    nn.init.uniform_(parameter, -bound, bound)
        for weight in {self.embed.weight, self.head.weight}:
            nn.init.uniform_(weight, -0.1, 0.1)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return all matrices but the embedding and the head, and the rows of those that each is stacked from."""
        size, parts = self.config.hidden_size, (self.blocks, self.start, self.readout)
        matrices = [weight for part in parts for weight in part.parameters() if weight.dim() == 2]
        return [(matrix, [size] * (len(matrix) // size)) for matrix in matrices]

    def flops_per_token(self) -> float:
        """Return the operations per token of text: 6 per matrix element and position, and attention.

        A row of C tokens is S positions of the encoder and T of the decoder, which reads all S.
        """
        c, (s, t) = self.config, (self.config.source_length, self.config.target_length)
        once, key = self.start.weight.numel(), self._attention.key.weight.numel()
        encoder = sum(
            weight.numel()
            for weight in self.blocks[: c.num_layers].parameters()
            if weight.dim() == 2
        )
        every = sum(matrix.numel() for matrix, _ in self.weight_matrices())
        decoder = every - encoder - key - once + c.vocab_size * c.hidden_size
        matrices = s * (encoder + key) + t * decoder + once
        return (6.0 * matrices + 18.0 * c.hidden_size * s * t) / c.context_length

    def decode(self, tokens_bt: Tensor, source_bs: Tensor, dropout_keys_b: Tensor | None) -> Tensor:
        """Return what the head reads, float[B, T, D]; ids of the source below zero are padding."""
        layers, size = self.config.num_layers, self.config.hidden_size
        recompute = self.activation_checkpointing and torch.is_grad_enabled()
        sites = iter(range(2 * layers + 2))

        def drop(x: Tensor) -> Tensor:
            site = next(sites)
            keys = None if dropout_keys_b is None else site_keys(dropout_keys_b, site)
            return dropout(x, keys, self.dropout)

        def run(layer: nn.Module, *inputs: Tensor) -> Tensor:
            if recompute:
                return cast("Tensor", checkpoint(layer, *inputs, use_reentrant=False))
            return cast("Tensor", layer(*inputs))

        is_text_bs = source_bs >= 0
        reverse_bs = reverse_positions(is_text_bs)
        encoded = drop(self.embed(source_bs.clamp_min(0)))
        for layer in self.blocks[:layers]:
            encoded = drop(run(layer, encoded, reverse_bs))
        # The state of the direction that has read all of the source at its first position.
        first_bd, *starts = torch.tanh(self.start(encoded[:, 0, size:])).chunk(layers, 1)
        y_btd = drop(self.embed(tokens_bt))
        states, context_bte = self._attention(y_btd, encoded, is_text_bs, first_bd, recompute)
        states = drop(states)
        for layer, start_bd in zip(self.blocks[layers + 1 :], starts, strict=True):
            states = drop(run(layer, states, start_bd))
        read = self.readout(torch.cat([states, y_btd, context_bte], -1))
        return torch.maximum(*read.chunk(2, -1))

    @property
    def _attention(self) -> AttentionLayer:
        return cast("AttentionLayer", self.blocks[self.config.num_layers])


def build_model(config: Seq2SeqConfig) -> GRUSeq2Seq:
    """Return a model with fresh weights, drawn from torch's generator."""
    return GRUSeq2Seq(config)
