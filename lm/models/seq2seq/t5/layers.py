"""The blocks of the T5 architecture; shape letters as in ``lm.models.seq2seq.t5.model``."""

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import attention
from lm.models.dropout import dropout
from lm.models.seq2seq.sections import Seq2SeqConfig


class Attention(nn.Module):
    """Attention of a stream to itself or to another one, ``softmax(q k^T + bias) v``."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_heads
        self.q = nn.Linear(size, size, bias=False)
        self.kv = nn.Linear(size, 2 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)

    def forward(self, x_btd: Tensor, read_bsd: Tensor, mask: Tensor, bias: Any = None) -> Tensor:
        """Return what attention to ``read_bsd`` adds to the residual stream, float[B, T, D]."""
        heads = self.q(x_btd).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv(read_bsd).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attention(heads, k, v, mask, bias, scale=1.0)
        return cast("Tensor", self.out(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Attention, in the decoder also to the encoder's output, and feed-forward, normalized before."""

    def __init__(self, config: Seq2SeqConfig, *, is_decoder: bool) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.norm_eps
        self.attention_norm = nn.RMSNorm(size, eps)
        self.attention = Attention(config)
        self.cross_norm = nn.RMSNorm(size, eps) if is_decoder else None
        self.cross = Attention(config) if is_decoder else None
        self.mlp_norm = nn.RMSNorm(size, eps)
        self.gate_up = nn.Linear(size, 2 * config.ffn_size, bias=False)
        self.down = nn.Linear(config.ffn_size, size, bias=False)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the block's matrices, and the rows of those that each is stacked from."""
        linear = [layer for layer in self.modules() if isinstance(layer, nn.Linear)]
        stacked = {self.attention.kv, self.gate_up, *([self.cross.kv] if self.cross else [])}
        return [
            (
                layer.weight,
                [layer.out_features // 2] * 2 if layer in stacked else [layer.out_features],
            )
            for layer in linear
        ]

    def forward(
        self,
        x_btd: Tensor,
        mask: Tensor,
        bias: Tensor,
        encoded: tuple[Tensor, Tensor] | None,
        keys: tuple[Tensor | None, ...],
        dropout_p: float,
    ) -> Tensor:
        """Return the residual stream; ``encoded``: the encoder's output and its mask."""
        normed = self.attention_norm(x_btd)
        x_btd = x_btd + dropout(self.attention(normed, normed, mask, bias), keys[0], dropout_p)
        if self.cross is not None and self.cross_norm is not None and encoded is not None:
            mixed = self.cross(self.cross_norm(x_btd), *encoded)
            x_btd = x_btd + dropout(mixed, keys[1], dropout_p)
        gate_btf, up_btf = self.gate_up(self.mlp_norm(x_btd)).chunk(2, dim=-1)
        fed_btd = self.down(F.gelu(gate_btf, approximate="tanh") * up_btf)
        return x_btd + dropout(fed_btd, keys[2], dropout_p)
