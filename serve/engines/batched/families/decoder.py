"""What the decoders share: keys and values in rows, attention, the order of the calls.

At the sizes that a laptop trains, the calls of torch cost as much as their arithmetic. So there are few: norms are
folded into the matrices after them where that is possible, angles are complex numbers, a layer's keys and values are
written by one call.
Letters as in ``serve.engines.batched.step_model``, H query heads, K key heads, E head size, C context length.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lm.models.decoder.sections import DecoderConfig
from serve.engines.batched.step_model import FP32_NOISE, State

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class DecoderSteps(ABC):
    """What Llama's and GPT-2's architecture share; see ``StepModel``."""

    noise = FP32_NOISE
    keeps_every_prefix = True

    def __init__(self, config: DecoderConfig, weights: Mapping[str, Tensor], rows: int) -> None:
        """Take over trained weights, and make room for ``rows`` sequences."""
        self.config, self.rows = config, rows
        self.vocab_size, self.head_dim = config.vocab_size, config.head_dim
        heads = config.num_kv_heads, config.context_length, config.head_dim
        self.cache = torch.zeros(config.num_layers, 2, rows, *heads)  # keys, values
        per_head = config.context_length
        per_row = config.num_kv_heads * per_head
        first = torch.arange(2)[:, None] * (rows * per_row)
        self._head_offsets = (first + torch.arange(config.num_kv_heads) * per_head).flatten()
        self._per_row = per_row
        self._time = torch.arange(config.context_length)
        self.embedding = weights["embed.weight"]
        self.head = weights.get("head.weight", self.embedding)

    @abstractmethod
    def embed(self, ids_n: Tensor, position_n: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream before the first layer, float[N, D], and the rotation of each token."""

    @abstractmethod
    def layer(
        self, number: int, x_nd: Tensor, turn: Tensor | None, index: Tensor, attend: Attend
    ) -> Tensor:
        """Return the residual stream after a layer."""

    @abstractmethod
    def predict(self, x_nd: Tensor) -> Tensor:
        """Return logits float[N, V]."""

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
        kv_heads, head_dim = self.config.num_kv_heads, self.head_dim

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
        index = ((row_n * self._per_row + position_n)[:, None] + self._head_offsets).flatten()
        x_nd, turn = self.embed(ids_n, position_n)
        for number in range(self.config.num_layers):
            x_nd = self.layer(number, x_nd, turn, index, attend)
        return x_nd

    def mix(
        self, number: int, heads_n: Tensor, q_nhe: Tensor, index: Tensor, attend: Attend
    ) -> Tensor:
        """Write a layer's keys and values, float[N, 2 K E], and return what attention reads, float[N, H E]."""
        cache = self.cache[number]
        cache.view(-1, self.head_dim).index_copy_(0, index, heads_n.reshape(-1, self.head_dim))
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
