"""GPT-2's architecture; letters as in ``serve.engines.batched.families.decoder``."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import sinusoidal_table
from lm.models.decoder.sections import DecoderConfig
from serve.engines.batched.families.decoder import Attend, DecoderSteps


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
        q_nhe = heads[:, :width].view(len(heads), -1, self.head_dim)
        mixed = self.mix(number, heads[:, width:], q_nhe, index, attend)
        x_nd = x_nd + torch.addmm(out[1], mixed, out[0])
        fed = F.gelu(torch.addmm(up[1], self._norm(x_nd, mlp_norm), up[0]))
        return x_nd + torch.addmm(down[1], fed, down[0])

    def predict(self, x_nd: Tensor) -> Tensor:
        """See ``DecoderSteps``."""
        return torch.mm(self._norm(x_nd, self._last_norm), self._predict)
