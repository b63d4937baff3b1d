"""Decoders, Llama's and GPT-2's architecture, with keys and values in rows.

At the sizes that a laptop trains, the calls of torch cost as much as their arithmetic. So there are few: norms are
folded into the matrices after them, angles are complex numbers, a layer's keys and values are written by one call.
Letters as in ``serve.engines.batched.step_model``, H query heads, K key heads, E head size, C context length.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import rotary_table, sinusoidal_table
from lm.models.decoder.sections import DecoderConfig
from serve.engines.batched.step_model import FP32_NOISE, State

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class DecoderSteps:
    """What both architectures share; see ``StepModel``."""

    noise = FP32_NOISE
    keeps_every_prefix = True

    def __init__(self, config: DecoderConfig, weights: Mapping[str, Tensor], rows: int) -> None:
        """Take over trained weights, and make room for ``rows`` sequences."""
        self.config, self.rows = config, rows
        self.vocab_size = config.vocab_size
        heads = config.num_kv_heads, config.context_length, config.head_dim
        self.cache = torch.zeros(config.num_layers, 2, rows, *heads)  # keys, values
        per_head = config.context_length
        per_row = config.num_kv_heads * per_head
        first = torch.arange(2)[:, None] * (rows * per_row)
        self._places = (first + torch.arange(config.num_kv_heads) * per_head).flatten()
        self._per_row = per_row
        self._time = torch.arange(config.context_length)
        self.embedding = weights["embed.weight"]
        self.head = weights.get("head.weight", self.embedding)

    def embed(self, ids_n: Tensor, position_n: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream before the first layer, float[N, D], and the rotation of each token."""
        raise NotImplementedError

    def layer(
        self, number: int, x_nd: Tensor, turn: Tensor | None, index: Tensor, attend: Attend
    ) -> Tensor:
        """Return the residual stream after a layer."""
        raise NotImplementedError

    def predict(self, x_nd: Tensor) -> Tensor:
        """Return logits float[N, V]."""
        raise NotImplementedError

    def start(self, row: int, prompt: Sequence[int]) -> list[int]:  # noqa: ARG002
        """See ``StepModel``: what a row holds past its position is never read."""
        return list(prompt)

    def read(self, row: int, position: int, ids: Sequence[int], wanted: int) -> Tensor:
        """See ``StepModel``."""
        end = position + len(ids)
        mask = None
        if position:
            mask = self._time[:end] <= self._time[position:end, None]
        grouped = self.config.num_kv_heads != self.config.num_heads

        def attend(q_nhe: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            mixed = F.scaled_dot_product_attention(
                q_nhe.transpose(0, 1)[None],
                keys[row : row + 1, :, :end],
                values[row : row + 1, :, :end],
                attn_mask=mask,
                is_causal=mask is None,
                enable_gqa=grouped,
            )
            return mixed[0].transpose(0, 1).flatten(1)

        rows = torch.full((len(ids),), row)
        x_nd = self._run(torch.tensor(ids), self._time[position:end], rows, attend)
        return self.predict(x_nd[len(ids) - wanted :])

    def step(self, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """See ``StepModel``."""
        batch, end = len(ids), max(positions) + 1
        position_b, mask = torch.tensor(positions), None
        if min(positions) + 1 < end:
            mask = (self._time[:end] <= position_b[:, None])[:, None, None]
        kv_heads, head_dim = self.config.num_kv_heads, self.config.head_dim

        def attend(q_bhe: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            # The query heads of a key head as if they were further positions.
            mixed = F.scaled_dot_product_attention(
                q_bhe.reshape(batch, kv_heads, -1, head_dim),
                keys[:batch, :, :end],
                values[:batch, :, :end],
                attn_mask=mask,
            )
            return mixed.reshape(batch, -1)

        return self.predict(self._run(torch.tensor(ids), position_b, self._time[:batch], attend))

    def _run(self, ids_n: Tensor, position_n: Tensor, row_n: Tensor, attend: Attend) -> Tensor:
        index = ((row_n * self._per_row + position_n)[:, None] + self._places).flatten()
        x_nd, turn = self.embed(ids_n, position_n)
        for number in range(self.config.num_layers):
            x_nd = self.layer(number, x_nd, turn, index, attend)
        return x_nd

    def mix(
        self, number: int, heads_n: Tensor, q_nhe: Tensor, index: Tensor, attend: Attend
    ) -> Tensor:
        """Write a layer's keys and values, float[N, 2 K E], and return what attention reads, float[N, H E]."""
        cache = self.cache[number]
        cache.view(-1, self.config.head_dim).index_copy_(
            0, index, heads_n.reshape(-1, self.config.head_dim)
        )
        return attend(q_nhe, cache[0], cache[1])

    def move(self, source: int, target: int) -> None:
        """See ``StepModel``."""
        self.cache[:, :, target] = self.cache[:, :, source]

    def save(self, row: int, length: int) -> State:
        """See ``StepModel``."""
        return (self.cache[:, :, row, :, :length].clone(),)

    def load(self, row: int, state: State, length: int) -> None:
        """See ``StepModel``."""
        self.cache[:, :, row, :, :length] = state[0][:, :, :, :length]


class LlamaSteps(DecoderSteps):
    """RMSNorm, rotary positions, SwiGLU (``lm.models.decoder.llama.model``)."""

    def __init__(self, config: DecoderConfig, weights: Mapping[str, Tensor], rows: int) -> None:
        """See ``DecoderSteps``."""
        super().__init__(config, weights, rows)
        scale = math.sqrt(config.hidden_size)
        self._floor = torch.tensor(math.sqrt(config.hidden_size * config.norm_eps))
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
        size, ffn = self.config.head_dim, self.config.ffn_size
        query = self.config.num_heads * size
        heads = torch.mm(self._norm(x_nd), qkv)
        torch.view_as_complex(heads[:, : self._rotated].unflatten(1, (-1, size // 2, 2))).mul_(turn)
        q_nhe = heads[:, :query].unflatten(1, (-1, size))
        x_nd = torch.addmm(x_nd, self.mix(number, heads[:, query:], q_nhe, index, attend), out)
        fed = torch.mm(self._norm(x_nd), gate_up)
        return torch.addmm(x_nd, F.silu(fed[:, :ffn]) * fed[:, ffn:], down)

    def predict(self, x_nd: Tensor) -> Tensor:
        """See ``DecoderSteps``."""
        return torch.mm(self._norm(x_nd), self._predict)


class GPT2Steps(DecoderSteps):
    """LayerNorm, added positions, GELU (``lm.models.decoder.gpt2.model``)."""

    def __init__(self, config: DecoderConfig, weights: Mapping[str, Tensor], rows: int) -> None:
        """See ``DecoderSteps``."""
        super().__init__(config, weights, rows)
        self._positions = (
            weights["position_embedding.weight"]
            if config.positions == "learned"
            else sinusoidal_table(config.context_length, config.hidden_size)
        )

        def norm(name: str) -> tuple[Tensor, Tensor | None]:
            return weights[f"{name}.weight"], weights.get(f"{name}.bias")

        def linear(name: str) -> tuple[Tensor, Tensor]:
            matrix = weights[f"{name}.weight"]
            bias = weights.get(f"{name}.bias")
            return matrix.T.contiguous(), torch.zeros(len(matrix)) if bias is None else bias

        self._layers = [
            (
                norm(f"blocks.{number}.attention_norm"),
                linear(f"blocks.{number}.qkv"),
                linear(f"blocks.{number}.out"),
                norm(f"blocks.{number}.mlp_norm"),
                linear(f"blocks.{number}.up"),
                linear(f"blocks.{number}.down"),
            )
            for number in range(config.num_layers)
        ]
        self._last_norm = norm("norm")
        self._predict = self.head.T.contiguous()

    def embed(self, ids_n: Tensor, position_n: Tensor) -> tuple[Tensor, Tensor | None]:
        """See ``DecoderSteps``."""
        return self.embedding[ids_n] + self._positions[position_n], None

    def _norm(self, x_nd: Tensor, norm: tuple[Tensor, Tensor | None]) -> Tensor:
        return F.layer_norm(x_nd, x_nd.shape[1:], *norm, self.config.norm_eps)

    def layer(
        self,
        number: int,
        x_nd: Tensor,
        turn: Tensor | None,  # noqa: ARG002 - positions were added
        index: Tensor,
        attend: Attend,
    ) -> Tensor:
        """See ``DecoderSteps``."""
        attention_norm, qkv, out, mlp_norm, up, down = self._layers[number]
        width = self.config.hidden_size
        heads = torch.addmm(qkv[1], self._norm(x_nd, attention_norm), qkv[0])
        q_nhe = heads[:, :width].unflatten(1, (-1, self.config.head_dim))
        mixed = self.mix(number, heads[:, width:], q_nhe, index, attend)
        x_nd = x_nd + torch.addmm(out[1], mixed, out[0])
        fed = F.gelu(torch.addmm(up[1], self._norm(x_nd, mlp_norm), up[0]))
        return x_nd + torch.addmm(down[1], fed, down[0])

    def predict(self, x_nd: Tensor) -> Tensor:
        """See ``DecoderSteps``."""
        return torch.mm(self._norm(x_nd, self._last_norm), self._predict)
