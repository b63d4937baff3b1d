"""What the encoders' architectures share; shape letters as in ``lm.models.transformer``.

The embedding and the head have one row more than the tokenizer has ids: the mask. So the token shards
and the tokenizer are the same for all families.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import Segments, bidirectional_segments
from lm.models.encoder.sections import EncoderConfig
from lm.models.neural_lm import select_positions
from lm.models.transformer import Transformer
from lm.objectives.masked import MaskedTokens


class PredictionHead(nn.Module):
    """What is computed between the last block and the output matrix (Devlin et al. 2019)."""

    def __init__(self, config: EncoderConfig, *, bias: bool) -> None:
        super().__init__()
        size = config.hidden_size
        self.final_norm = nn.Identity() if bias else nn.LayerNorm(size, config.norm_eps, bias=False)
        self.dense = nn.Linear(size, size, bias=bias)
        self.norm = nn.LayerNorm(size, config.norm_eps, bias=bias)

    def forward(self, x_btd: Tensor) -> Tensor:
        """Return what the output matrix reads, float[B, T, D]."""
        return self.transform(self.final_norm(x_btd))

    def transform(self, x: Tensor) -> Tensor:
        """Return what the output matrix reads of normalized states, float[..., D]."""
        transformed: Tensor = self.norm(F.gelu(self.dense(x)))
        return transformed


class Encoder(Transformer):
    """A Transformer whose positions attend to all others, trained as a masked language model."""

    config: EncoderConfig
    norm: PredictionHead

    def objective(self, seed: int, eos: int) -> MaskedTokens:
        """Return how the rows of a run with this seed become what the model reads and predicts."""
        return MaskedTokens(seed, self.config.mask_id, eos, self.config.mask_fraction)

    def init_weights(self) -> None:
        """Draw weights as all Transformers do; biases start at zero."""
        super().init_weights()
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return all matrices but embedding and head, and the rows of what each is stacked from."""
        dense: nn.Module = self.norm.dense
        blocks = super().weight_matrices()
        if not isinstance(dense, nn.Linear):  # with the head of another task (lm.models.heads)
            return blocks
        return [*blocks, (dense.weight, [dense.out_features])]

    def flops_per_token(self) -> float:
        """Return ``6 N + 12 L D T`` as for a decoder, the head only for the predicted tokens."""
        c = self.config
        blocks = sum(matrix.numel() for matrix, _ in self.weight_matrices())
        matrices = blocks + c.mask_fraction * c.vocab_size * c.hidden_size
        return 6.0 * matrices + 12.0 * c.num_layers * c.hidden_size * c.context_length

    def hidden_states(
        self, tokens_bt: Tensor, eos: int | None = None, dropout_keys_b: Tensor | None = None
    ) -> Tensor:
        """Return the residual stream after the last block, float[B, T, D], of which ``predict`` reads a part."""
        return self.run_blocks(tokens_bt, self.segments(tokens_bt, eos), dropout_keys_b)

    def predict(
        self,
        hidden_btd: Tensor,
        targets_bt: Tensor | None,
        positions: Tensor | None,
        label_smoothing: float,
    ) -> Tensor:
        """See ``NeuralLM``; what is before the output matrix is computed for the predicted positions alone."""
        hidden_bkd = self.norm(select_positions(hidden_btd, positions))
        return super().predict(hidden_bkd, targets_bt, None, label_smoothing)

    def segments(self, tokens_bt: Tensor, eos: int | None) -> Segments:
        """Return the bidirectional segments of rows; each position that holds ``eos`` ends a document."""
        return bidirectional_segments(tokens_bt, eos)

    def text_states(self, tokens_bt: Tensor, dropout_keys_b: Tensor | None = None) -> Tensor:
        """Return the last hidden states of texts, float[B, T, D]; nothing attends to padding."""
        time = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
        segments = Segments(time, (tokens_bt >= 0)[:, None, None, :])
        x_btd = self.run_blocks(tokens_bt.clamp_min(0), segments, dropout_keys_b)
        return cast("Tensor", self.norm.final_norm(x_btd))


def split_heads(stacked_btd: Tensor, num_heads: int) -> tuple[Tensor, ...]:
    """Return queries, keys and values, float[B, H, T, E] each, of float[B, T, 3 D]."""
    batch, time, _ = stacked_btd.shape
    return torch.unbind(stacked_btd.view(batch, time, 3, num_heads, -1).permute(2, 0, 3, 1, 4))
