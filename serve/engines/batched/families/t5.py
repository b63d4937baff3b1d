"""T5's architecture: a row is an encoded source, as each layer's keys and values, and those of the target so far.

Letters as in ``serve.engines.batched.step_model``, H heads, E head size, S source positions.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lm.models.seq2seq.t5.layers import Block
from lm.models.seq2seq.t5.model import T5
from lm.models.seq2seq.t5.relative_bias import bucket
from serve.engines.batched.step_model import FP32_NOISE
from serve.models import SOURCE_ROOM


class T5Steps:
    """See ``StepModel``: what is read token by token is the target; ``start`` reads the source."""

    noise = FP32_NOISE

    def __init__(self, model: T5, rows: int, start_id: int) -> None:
        """Take over a trained model, whose encoder is used as it is."""
        c = self.config = model.config
        self.vocab_size, self._model, self._start_id = c.vocab_size, model, start_id
        size, length = c.hidden_size, c.context_length + SOURCE_ROOM
        head = c.num_heads, length, size // c.num_heads
        self._cache = torch.zeros(c.num_layers, 2, rows, *head)  # keys, values of the target
        self._source = torch.zeros(c.num_layers, 2, rows, *head)
        self._source_length = torch.ones(rows, dtype=torch.int64)
        self._time = torch.arange(length)
        self._floor = torch.tensor(math.sqrt(size * c.norm_eps))
        distance = bucket(-self._time, is_causal=True)
        self._bias = model.decoder_bias.bias(distance).T.contiguous()  # [H, C], by distance
        scale = math.sqrt(size)
        self._layers = []
        for block in model.blocks[c.num_layers :]:
            assert isinstance(block, Block)
            assert block.cross is not None
            assert block.cross_norm is not None
            own, cross = block.attention, block.cross
            norms = [
                x.weight * scale for x in (block.attention_norm, block.cross_norm, block.mlp_norm)
            ]
            matrices = (
                torch.cat([own.q.weight, own.kv.weight]) * norms[0],
                own.out.weight,
                cross.q.weight * norms[1],
                cross.out.weight,
                block.gate_up.weight * norms[2],
                block.down.weight,
            )
            self._layers.append(tuple(matrix.T.contiguous() for matrix in matrices))
        # The stream is divided by sqrt(D) before the head, which undoes the norm's factor.
        norm = model.norm
        assert isinstance(norm, torch.nn.RMSNorm)
        self._predict = (model.head.weight * norm.weight).T.contiguous()

    def start(self, row: int, prompt: Sequence[int]) -> list[int]:
        """See ``StepModel``: encode a source, of at most ``context_length`` tokens and those around them."""
        model, length = self._model, len(prompt)
        x = model.embed(torch.tensor([list(prompt)]))
        mask = torch.ones(1, 1, 1, length, dtype=torch.bool)
        bias = model.encoder_bias(x)
        for block in model.blocks[: self.config.num_layers]:
            x = block(x, mask, bias, None, (None, None, None), 0.0)
        encoded = model.encoder_norm(x)[0]
        for number, block in enumerate(model.blocks[self.config.num_layers :]):
            assert isinstance(block, Block)
            assert block.cross is not None
            both = block.cross.kv(encoded).unflatten(1, (2, self.config.num_heads, -1))
            self._source[number, :, row, :, :length] = both.permute(1, 2, 0, 3)
        self._source_length[row] = length
        return [self._start_id]

    def read(self, row: int, position: int, ids: Sequence[int], wanted: int) -> Tensor:
        """See ``StepModel``."""
        rows = slice(row, row + 1)
        logits = [self._run([id_], [at], rows) for at, id_ in enumerate(ids, position)]
        return torch.cat(logits[len(ids) - wanted :]) if wanted else torch.zeros(0, self.vocab_size)

    def step(self, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """See ``StepModel``."""
        return self._run(ids, positions, slice(0, len(ids)))

    def _run(self, ids: Sequence[int], positions: Sequence[int], rows: slice) -> Tensor:
        """Return the logits after a token for each of the rows, float[B, V]."""
        c, end, batch = self.config, max(positions) + 1, len(ids)
        position_b, index = torch.tensor(positions), torch.arange(rows.start, rows.stop)
        distance_bt = position_b[:, None] - self._time[:end]
        bias = self._bias[:, distance_bt.clamp_min(0)].transpose(0, 1)[:, :, None]
        bias = bias.masked_fill((distance_bt < 0)[:, None, None], -torch.inf)
        length_b = self._source_length[rows]
        longest = int(length_b.max())
        is_text = (self._time[:longest] < length_b[:, None])[:, None, None]
        x = self._model.embed.weight[torch.tensor(ids)]
        for number, (qkv, out, cross_q, cross_out, gate_up, down) in enumerate(self._layers):
            q, k, v = torch.mm(self._norm(x), qkv).view(batch, 3, c.num_heads, -1).unbind(1)
            keys, values = self._cache[number]
            keys[index, :, position_b], values[index, :, position_b] = k, v
            mixed = self._attend(q, keys[rows, :, :end], values[rows, :, :end], bias)
            x = torch.addmm(x, mixed, out)
            q = torch.mm(self._norm(x), cross_q).view(batch, c.num_heads, -1)
            keys, values = self._source[number][:, rows, :, :longest]
            x = torch.addmm(x, self._attend(q, keys, values, is_text), cross_out)
            gate, up = torch.mm(self._norm(x), gate_up).chunk(2, dim=1)
            x = torch.addmm(x, F.gelu(gate, approximate="tanh") * up, down)
        return torch.mm(self._norm(x), self._predict)

    def _norm(self, x_nd: Tensor) -> Tensor:
        """Return ``x / rms(x)`` but for the factor sqrt(D), which is in the matrix that follows."""
        return x_nd / torch.hypot(torch.linalg.vector_norm(x_nd, dim=-1, keepdim=True), self._floor)

    def _attend(self, q_bhe: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(
            q_bhe[:, :, None], keys, values, attn_mask=mask, scale=1.0
        )
        return mixed.flatten(1)

    def move(self, source: int, target: int) -> None:
        """See ``StepModel``."""
        for tensor in (self._cache, self._source):
            tensor[:, :, target] = tensor[:, :, source]
        self._source_length[target] = self._source_length[source]
