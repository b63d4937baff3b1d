"""The GRU encoder-decoder with additive attention: a row is an encoded source and the decoder's state.

Letters as in ``serve.engines.batched.step_model``, S source positions, E = 2 D.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lm.models.seq2seq.gru.layers import AttentionLayer, GRULayer, reverse_positions
from lm.models.seq2seq.gru.model import GRUSeq2Seq
from serve.engines.batched.step_model import FP32_NOISE
from serve.models import SOURCE_ROOM


class GRUSeq2SeqSteps:
    """See ``StepModel``: what is read token by token is the target; ``start`` reads the source."""

    noise = FP32_NOISE

    def __init__(self, model: GRUSeq2Seq, rows: int, start_id: int) -> None:
        """Take over a trained model, whose encoder is used as it is."""
        c = self.config = model.config
        self.vocab_size, self._model, self._start_id = c.vocab_size, model, start_id
        size, length = c.hidden_size, c.context_length + SOURCE_ROOM
        self._keys = torch.zeros(rows, length, size)
        self._encoded = torch.zeros(rows, length, 2 * size)
        self._source_length = torch.ones(rows, dtype=torch.int64)
        self._states = torch.zeros(c.num_layers, rows, size)
        self._time = torch.arange(length)
        attention, *more = model.blocks[c.num_layers :]
        assert isinstance(attention, AttentionLayer)
        self._attention = attention
        self._layers = [_parameters(layer) for layer in more]
        self._first = _parameters(attention)
        self._head = model.head.weight.T.contiguous()

    def start(self, row: int, prompt: Sequence[int]) -> list[int]:
        """See ``StepModel``: encode a source, of at most ``context_length`` tokens and those around them."""
        model, layers, length = self._model, self.config.num_layers, len(prompt)
        encoded = model.embed(torch.tensor([list(prompt)]))
        reverse = reverse_positions(torch.ones(1, length, dtype=torch.bool))
        for layer in model.blocks[:layers]:
            encoded = layer(encoded, reverse)
        last_read = encoded[:, 0, self.config.hidden_size :]
        self._states[:, row] = torch.tanh(model.start(last_read)).view(layers, -1)
        self._keys[row, :length] = self._attention.key(encoded)[0]
        self._encoded[row, :length] = encoded[0]
        self._source_length[row] = length
        return [self._start_id]

    def read(self, row: int, position: int, ids: Sequence[int], wanted: int) -> Tensor:  # noqa: ARG002
        """See ``StepModel``."""
        logits = [self._run([id_], slice(row, row + 1)) for id_ in ids]
        return torch.cat(logits[len(ids) - wanted :]) if wanted else torch.zeros(0, self.vocab_size)

    def step(self, ids: Sequence[int], positions: Sequence[int]) -> Tensor:  # noqa: ARG002
        """See ``StepModel``."""
        return self._run(ids, slice(0, len(ids)))

    def _run(self, ids: Sequence[int], rows: slice) -> Tensor:
        """Return the logits after a token for each of the rows, float[B, V]."""
        length_b = self._source_length[rows]
        longest = int(length_b.max())
        encoded_bse, keys_bsd = self._encoded[rows, :longest], self._keys[rows, :longest]
        y_bd = self._model.embed.weight[torch.tensor(ids)]
        first_bd, *above = self._states[:, rows].unbind(0)
        scores_bs = (
            torch.tanh(self._attention.query(first_bd)[:, None] + keys_bsd) @ self._attention.score
        )
        scores_bs = scores_bs.masked_fill(self._time[:longest] >= length_b[:, None], -torch.inf)
        context_be = torch.bmm(scores_bs.softmax(1)[:, None], encoded_bse)[:, 0]
        x_bd = torch.gru_cell(torch.cat([y_bd, context_be], 1), first_bd, *self._first)
        states = [x_bd]
        for state, parameters in zip(above, self._layers, strict=True):
            x_bd = torch.gru_cell(x_bd, state, *parameters)
            states.append(x_bd)
        self._states[:, rows] = torch.stack(states)
        read = self._model.readout(torch.cat([x_bd, y_bd, context_be], 1))
        return torch.mm(torch.maximum(*read.chunk(2, 1)), self._head)

    def move(self, source: int, target: int) -> None:
        """See ``StepModel``."""
        self._states[:, target] = self._states[:, source]
        for tensor in (self._keys, self._encoded, self._source_length):
            tensor[target] = tensor[source]


def _parameters(layer: torch.nn.Module) -> tuple[Tensor, ...]:
    assert isinstance(layer, GRULayer)
    return layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh
