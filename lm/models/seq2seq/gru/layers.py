"""The layers of the GRU encoder-decoder; shape letters as in ``lm.models.seq2seq.model``.

G = 3 D are the gates of a gated recurrent unit in the variant of ``torch.nn.GRU``, whose formula is in
``lm.models.gru.model``; E = 2 D are the encoder's two directions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint


class GRULayer(nn.Module):
    """A gated recurrent unit: the parameters as ``nn.GRU`` names and stacks them."""

    def __init__(self, input_size: int, size: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * size, size))
        self.bias_ih, self.bias_hh = (nn.Parameter(torch.empty(3 * size)) for _ in range(2))

    def forward(self, x_btd: Tensor, start_bd: Tensor) -> Tensor:
        """Return the states after each input, float[B, T, D]."""
        weights = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        states, _ = torch.gru(
            x_btd, start_bd[None], weights, True, 1, 0.0, torch.is_grad_enabled(), False, True
        )
        return states


class EncoderLayer(nn.Module):
    """Two units, of which one reads the source from its end."""

    def __init__(self, input_size: int, size: int) -> None:
        super().__init__()
        self.left_to_right = GRULayer(input_size, size)
        self.right_to_left = GRULayer(input_size, size)

    def forward(self, x_bsd: Tensor, reverse_bs: Tensor) -> Tensor:
        """Return the states of both, float[B, S, E]; ``reverse_bs`` are the positions from the end."""
        zero_bd = x_bsd.new_zeros(len(x_bsd), self.left_to_right.weight_hh.shape[1])
        reversed_bsd = self.right_to_left(_reorder(x_bsd, reverse_bs), zero_bd)
        return torch.cat(
            [self.left_to_right(x_bsd, zero_bd), _reorder(reversed_bsd, reverse_bs)], -1
        )


class AttentionLayer(GRULayer):
    """The decoder's first layer, which attends to the source before each step."""

    def __init__(self, size: int) -> None:
        super().__init__(3 * size, size)
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(2 * size, size, bias=False)
        self.score = nn.Parameter(torch.empty(size))

    def forward(  # type: ignore[override]
        self,
        y_btd: Tensor,
        encoded_bse: Tensor,
        is_text_bs: Tensor,
        start_bd: Tensor,
        recompute: bool,  # noqa: FBT001 - a module's hooks see positional arguments only
    ) -> tuple[Tensor, Tensor]:
        """Return the states, float[B, T, D], and what was read of the source, float[B, T, E].

        A step attends with the state before it, so steps are computed one after the other; what depends on the
        tokens or on the source alone is computed before. A step keeps float[B, S, D] for the backward
        pass, unless it is computed again (``recompute``).
        """
        by_token, by_context = self.weight_ih.split((y_btd.shape[2], encoded_bse.shape[2]), dim=1)
        gates_btg = F.linear(y_btd, by_token, self.bias_ih)
        source = self.key(encoded_bse), encoded_bse, is_text_bs
        # In fp32 under autocast, too: rounding would add up from step to step.
        state_bd, states, contexts = start_bd.float(), [], []
        for gates_bg in gates_btg.unbind(1):
            arguments = state_bd, gates_bg, by_context, *source
            state_bd, context_be = (
                checkpoint(self._step, *arguments, use_reentrant=False, preserve_rng_state=False)
                if recompute
                else self._step(*arguments)
            )
            states.append(state_bd)
            contexts.append(context_be)
        return torch.stack(states, 1), torch.stack(contexts, 1)

    def _step(
        self,
        state_bd: Tensor,
        gates_bg: Tensor,
        by_context: Tensor,
        keys_bsd: Tensor,
        encoded_bse: Tensor,
        is_text_bs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the next state, float[B, D], and what it read of the source, float[B, E]."""
        scores_bs = torch.tanh(self.query(state_bd)[:, None] + keys_bsd) @ self.score
        weights_bs = scores_bs.masked_fill(~is_text_bs, -torch.inf).softmax(1)
        context_be = (weights_bs[:, None] @ encoded_bse).squeeze(1)
        inputs = (gates_bg + F.linear(context_be, by_context)).chunk(3, 1)
        reset, update, new = F.linear(state_bd, self.weight_hh, self.bias_hh).chunk(3, 1)
        r_bd, z_bd = torch.sigmoid(inputs[0] + reset), torch.sigmoid(inputs[1] + update)
        n_bd = torch.tanh(inputs[2] + r_bd * new)
        return n_bd + z_bd * (state_bd - n_bd), context_be


def reverse_positions(is_text_bs: Tensor) -> Tensor:
    """Return the position to read at each one in order to read a row from its end, int64[B, S].

    Padding, on the right, stays where it is.
    """
    position = torch.arange(is_text_bs.shape[1], device=is_text_bs.device)
    return torch.where(is_text_bs, is_text_bs.sum(1, keepdim=True) - 1 - position, position)


def _reorder(x_bsd: Tensor, position_bs: Tensor) -> Tensor:
    return x_bsd.gather(1, position_bs[..., None].expand(-1, -1, x_bsd.shape[2]))
