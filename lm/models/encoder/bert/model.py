"""The BERT architecture: LayerNorm after each sublayer, learned positions, GELU, biases.

Follows Devlin et al. 2019 (arXiv:1810.04805) without its segments and its next-sentence prediction,
which Liu et al. 2019 (arXiv:1907.11692) found to be of no use. A checkpoint exports to
``transformers.BertForMaskedLM`` by renaming. Shape letters as in ``lm.models.transformer``.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import Segments, attention
from lm.models.dropout import dropout
from lm.models.encoder.model import Encoder, PredictionHead, split_heads
from lm.models.encoder.sections import EncoderConfig


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream and normalized after."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size, hidden, eps = config.hidden_size, config.ffn_size, config.norm_eps
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size, eps)
        self.up = nn.Linear(size, hidden)
        self.down = nn.Linear(hidden, size)
        self.mlp_norm = nn.LayerNorm(size, eps)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the block's matrices, and the rows of those that each is stacked from."""
        whole = ((layer, [layer.out_features]) for layer in (self.out, self.up, self.down))
        stacked = (self.qkv, [self.out.out_features] * 3)
        return [(layer.weight, rows) for layer, rows in (stacked, *whole)]

    def forward(
        self,
        x_btd: Tensor,
        block_extras: None,  # noqa: ARG002
        segments: Segments,
        dropout_keys: Sequence[Tensor | None],
        dropout_p: float,
    ) -> Tensor:
        """Return the residual stream after the block, float[B, T, D]."""
        q, k, v = split_heads(self.qkv(x_btd), self.num_heads)
        mixed_btd = self.out(attention(q, k, v, segments.mask).transpose(1, 2).flatten(2))
        x_btd = self.attention_norm(x_btd + dropout(mixed_btd, dropout_keys[0], dropout_p))
        fed_btd = self.down(F.gelu(self.up(x_btd)))
        return cast("Tensor", self.mlp_norm(x_btd + dropout(fed_btd, dropout_keys[1], dropout_p)))


class Bert(Encoder):
    """The BERT model."""

    def __init__(self, config: EncoderConfig) -> None:
        blocks: list[nn.Module] = [Block(config) for _ in range(config.num_layers)]
        super().__init__(config, blocks, PredictionHead(config, bias=True))
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context_length, config.hidden_size)
        self.embed_norm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.init_weights()

    def embed_inputs(self, tokens_bt: Tensor, segments: Segments) -> tuple[Tensor, None]:
        """Return the normalized sum of the embeddings of ids and of positions within documents."""
        x_btd: Tensor = self.embed(tokens_bt) + self.position_vectors(segments.positions)
        return self.embed_norm(x_btd), None


def build_model(config: EncoderConfig) -> Bert:
    """Return a model with fresh weights, drawn from torch's generator."""
    return Bert(config)
