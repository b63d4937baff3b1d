"""The T5 architecture: RMSNorm, relative position biases, GeGLU, attention without a scale.

Follows Raffel et al. 2020 (arXiv:1910.10683) with the feed-forward network of T5 1.1 (Shazeer 2020,
arXiv:2002.05202). A checkpoint exports to ``transformers.T5ForConditionalGeneration`` by renaming.
Shape letters as in ``lm.models.seq2seq.model``, and H heads, E head size, F of the feed-forward network.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lm.models.dropout import dropout, site_keys
from lm.models.seq2seq.model import Seq2Seq
from lm.models.seq2seq.sections import Seq2SeqConfig
from lm.models.seq2seq.t5.layers import Block
from lm.models.seq2seq.t5.relative_bias import RelativeBias


class T5(Seq2Seq):
    """The T5 model; its first blocks are the encoder's."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        kinds = [False] * config.num_layers + [True] * config.num_layers
        blocks: list[nn.Module] = [Block(config, is_decoder=kind) for kind in kinds]
        super().__init__(config, blocks, nn.RMSNorm(config.hidden_size, config.norm_eps))
        self.encoder_norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.encoder_bias = RelativeBias(config.num_heads, is_causal=False)
        self.decoder_bias = RelativeBias(config.num_heads, is_causal=True)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw matrices as T5 does, so that variance is kept; the embedding so that logits are small."""
        size, head_dim = self.config.hidden_size, self.config.hidden_size // self.config.num_heads
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                std = 1 / math.sqrt(parameter.shape[1])
                std = std / math.sqrt(head_dim) if name.endswith("q.weight") else std
                std = 1 / math.sqrt(size) if "bias" in name else std
                std = 0.02 * math.sqrt(size) if name == "embed.weight" else std
                nn.init.normal_(parameter, std=std)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the blocks' matrices, and the rows of those that each is stacked from."""
        return [pair for block in self.blocks for pair in cast("Block", block).weight_matrices()]

    def flops_per_token(self) -> float:
        """Return the operations per token of text: 6 per matrix element and position, and attention.

        A row of C tokens is S positions of the encoder and T of the decoder, which reads all S.
        """
        c, (s, t) = self.config, (self.config.source_length, self.config.target_length)
        blocks = [cast("Block", block) for block in self.blocks]
        encoder, decoder = (
            sum(matrix.numel() for block in part for matrix, _ in block.weight_matrices())
            for part in (blocks[: c.num_layers], blocks[c.num_layers :])
        )
        keys = (
            c.num_layers * 2 * c.hidden_size**2
        )  # of the decoder's blocks, computed of the source
        matrices = s * (encoder + keys) + t * (decoder - keys + c.vocab_size * c.hidden_size)
        scores = c.num_layers * c.hidden_size * (s * s + t * t + t * s)
        return (6.0 * matrices + 12.0 * scores) / c.context_length

    def decode(self, tokens_bt: Tensor, source_bs: Tensor, dropout_keys_b: Tensor | None) -> Tensor:
        """Return what the head reads, float[B, T, D]; ids of the source below zero are padding."""
        layers, time = self.config.num_layers, tokens_bt.shape[1]
        is_text = (source_bs >= 0)[:, None, None, :]
        past = torch.ones(time, time, dtype=torch.bool, device=tokens_bt.device).tril()
        x_bsd, x_btd = self.embed(source_bs.clamp_min(0)), self.embed(tokens_bt)
        x_bsd = self._run(
            0, layers, x_bsd, (is_text, self.encoder_bias(x_bsd), None), dropout_keys_b
        )
        encoded = self.encoder_norm(x_bsd), is_text
        inputs = past, self.decoder_bias(x_btd), encoded
        x_btd = self._run(layers, 2 * layers, x_btd, inputs, dropout_keys_b)
        return cast("Tensor", self.norm(x_btd)) / math.sqrt(self.config.hidden_size)

    def _run(
        self, first: int, end: int, x: Tensor, inputs: tuple[Any, ...], keys_b: Tensor | None
    ) -> Tensor:
        """Return a stream after the blocks ``[first, end)``; each has four sites of dropout."""
        sites = range(4 * len(self.blocks))
        keys = [None if keys_b is None else site_keys(keys_b, site) for site in sites]
        x = dropout(x, keys[4 * first + 3], self.dropout)
        for index in range(first, end):
            block, own = self.blocks[index], (*keys[4 * index : 4 * index + 3],)
            if self.activation_checkpointing and torch.is_grad_enabled():
                arguments = *inputs, own, self.dropout
                x = cast("Tensor", checkpoint(block, x, *arguments, use_reentrant=False))
            else:
                x = block(x, *inputs, own, self.dropout)
        return x


def build_model(config: Seq2SeqConfig) -> T5:
    """Return a model with fresh weights, drawn from torch's generator."""
    return T5(config)
