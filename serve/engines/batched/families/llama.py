"""Llama's architecture; letters as in ``serve.engines.batched.families.decoder``."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import rotary_table
from lm.models.decoder.sections import DecoderConfig
from serve.engines.batched.families.decoder import Attend, DecoderSteps


class LlamaSteps(DecoderSteps):
    """RMSNorm, rotary positions, SwiGLU (``lm.models.decoder.llama.model``)."""

    def __init__(self, config: DecoderConfig, weights: Mapping[str, Tensor], rows: int) -> None:
        """See ``DecoderSteps``."""
        super().__init__(config, weights, rows)
        scale = math.sqrt(config.hidden_size)
        self._floor = torch.tensor(math.sqrt(config.hidden_size * config.norm_eps))
        self._query = config.num_heads * config.head_dim
        self._rotated = (config.num_heads + config.num_kv_heads) * config.head_dim
        cos_te, sin_te = rotary_table(config.head_dim, config.context_length, config.rope_theta)
        half = config.head_dim // 2
        self._turns = torch.complex(cos_te[:, :half], sin_te[:, :half])[:, None].contiguous()
        self._layers = []
        for number in range(config.num_layers):
            own = {
                name: weights[f"blocks.{number}.{name}.weight"]
                for name in ("attention_norm", "qkv", "out", "mlp_norm", "gate_up", "down")
            }
            qkv = own["qkv"] * (own["attention_norm"] * scale)
            # Pairs (i, i + E/2) side by side, as complex numbers are.
            pairs = qkv[: self._rotated].unflatten(0, (-1, 2, half)).transpose(1, 2).flatten(0, 2)
            qkv = torch.cat([pairs, qkv[self._rotated :]])
            gate_up = own["gate_up"] * (own["mlp_norm"] * scale)
            matrices = (qkv, own["out"], gate_up, own["down"])
            self._layers.append(tuple(matrix.T.contiguous() for matrix in matrices))
        self._predict = (self.head * (weights["norm.weight"] * scale)).T.contiguous()

    def embed(self, ids_n: Tensor, position_n: Tensor) -> tuple[Tensor, Tensor | None]:
        """See ``DecoderSteps``."""
        return self.embedding[ids_n], self._turns[position_n]

    def _norm(self, x_nd: Tensor) -> Tensor:
        """Return ``x / rms(x)`` but for the factor sqrt(D), which is in the matrix that follows."""
        return x_nd / torch.hypot(torch.linalg.vector_norm(x_nd, dim=-1, keepdim=True), self._floor)

    def layer(
        self, number: int, x_nd: Tensor, turn: Tensor | None, index: Tensor, attend: Attend
    ) -> Tensor:
        """See ``DecoderSteps``."""
        assert turn is not None
        qkv, out, gate_up, down = self._layers[number]
        size, ffn, query = self.head_dim, self.config.ffn_size, self._query
        heads = torch.mm(self._norm(x_nd), qkv)
        batch = len(heads)
        torch.view_as_complex(heads[:, : self._rotated].view(batch, -1, size // 2, 2)).mul_(turn)
        q_nhe = heads[:, :query].view(batch, -1, size)
        x_nd = torch.addmm(x_nd, self.mix(number, heads[:, query:], q_nhe, index, attend), out)
        fed = torch.mm(self._norm(x_nd), gate_up)
        return torch.addmm(x_nd, F.silu(fed[:, :ffn]) * fed[:, ffn:], down)

    def predict(self, x_nd: Tensor) -> Tensor:
        """See ``DecoderSteps``."""
        return torch.mm(self._norm(x_nd), self._predict)
