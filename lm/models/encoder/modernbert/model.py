"""The ModernBERT architecture: LayerNorm before each sublayer, rotary positions, GeGLU, no biases.

Follows Warner et al. 2024 (arXiv:2412.13663): the embedding is normalized, so the first block's
attention is not. All layers attend to the whole sequence. A checkpoint exports to
``transformers.ModernBertForMaskedLM`` by renaming. Shape letters as in ``lm.models.transformer``.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import Segments, apply_rotary, attention, rotary_table
from lm.models.dropout import dropout
from lm.models.encoder.model import Encoder, PredictionHead, split_heads
from lm.models.encoder.sections import EncoderConfig

RotaryTable = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Attention and feed-forward, each normalized before and added to the residual stream."""

    def __init__(self, config: EncoderConfig, *, is_first: bool) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.norm_eps
        self.num_heads = config.num_heads
        self.attention_norm = nn.Identity() if is_first else nn.LayerNorm(size, eps, bias=False)
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.mlp_norm = nn.LayerNorm(size, eps, bias=False)
        self.gate_up = nn.Linear(size, 2 * config.ffn_size, bias=False)
        self.down = nn.Linear(config.ffn_size, size, bias=False)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the block's matrices, and the rows of those that each is stacked from."""
        size, hidden = self.out.out_features, self.down.in_features
        stacked = (self.qkv, [size] * 3), (self.gate_up, [hidden] * 2)
        whole = ((layer, [size]) for layer in (self.out, self.down))
        return [(layer.weight, rows) for layer, rows in (*stacked, *whole)]

    def forward(
        self,
        x_btd: Tensor,
        rotary: RotaryTable,
        segments: Segments,
        dropout_keys: Sequence[Tensor | None],
        dropout_p: float,
    ) -> Tensor:
        """Return the residual stream after the block, float[B, T, D]."""
        q, k, v = split_heads(self.qkv(self.attention_norm(x_btd)), self.num_heads)
        mixed = attention(apply_rotary(q, *rotary), apply_rotary(k, *rotary), v, segments.mask)
        mixed_btd = self.out(mixed.transpose(1, 2).flatten(2))
        x_btd = x_btd + dropout(mixed_btd, dropout_keys[0], dropout_p)
        gate_btf, up_btf = self.gate_up(self.mlp_norm(x_btd)).chunk(2, dim=-1)
        fed_btd = self.down(F.gelu(gate_btf) * up_btf)
        return x_btd + dropout(fed_btd, dropout_keys[1], dropout_p)


class ModernBert(Encoder):
    """The ModernBERT model."""

    _rotary_table: RotaryTable | None = None

    def __init__(self, config: EncoderConfig) -> None:
        blocks: list[nn.Module] = [
            Block(config, is_first=layer == 0) for layer in range(config.num_layers)
        ]
        super().__init__(config, blocks, PredictionHead(config, bias=False))
        self.embed_norm = nn.LayerNorm(config.hidden_size, config.norm_eps, bias=False)
        self.init_weights()

    def embed_inputs(self, tokens_bt: Tensor, segments: Segments) -> tuple[Tensor, RotaryTable]:  # noqa: ARG002
        """Return the normalized embedding and the rotary table.

        Rotary attention depends only on the distance of two positions, so that positions need not
        restart with each document.
        """
        x_btd, time = self.embed_norm(self.embed(tokens_bt)), tokens_bt.shape[1]
        if self._rotary_table is None or self._rotary_table[0].device != x_btd.device:
            c = self.config
            cos_te, sin_te = rotary_table(c.head_dim, c.context_length, c.rope_theta)
            self._rotary_table = cos_te.to(x_btd.device), sin_te.to(x_btd.device)
        cos_te, sin_te = self._rotary_table
        return x_btd, (cos_te[:time], sin_te[:time])


def build_model(config: EncoderConfig) -> ModernBert:
    """Return a model with fresh weights, drawn from torch's generator."""
    return ModernBert(config)
