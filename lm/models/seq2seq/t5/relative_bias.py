"""T5's positions: a learned number for each head and distance is added to the attention's scores."""

import math

import torch
from torch import Tensor, nn

NUM_BUCKETS, MAX_DISTANCE = 32, 128


class RelativeBias(nn.Module):
    """A bias per head and bucket of distances (Raffel et al. 2020, section 2.1)."""

    def __init__(self, num_heads: int, *, is_causal: bool) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.bias = nn.Embedding(NUM_BUCKETS, num_heads)

    def forward(self, x_btd: Tensor) -> Tensor:
        """Return the bias of each pair of positions, float[1, H, T, T]."""
        time = torch.arange(x_btd.shape[1], device=x_btd.device)
        buckets = bucket(time[None, :] - time[:, None], is_causal=self.is_causal)
        values: Tensor = self.bias(buckets)
        return values.permute(2, 0, 1).unsqueeze(0)


def bucket(distance: Tensor, *, is_causal: bool) -> Tensor:
    """Return the bucket of each distance (key minus query), int64.

    Half of the buckets are for one distance each, the others grow exponentially up to 128. Without
    ``is_causal`` half of all are for keys after the query.
    """
    count, first = NUM_BUCKETS, torch.zeros_like(distance)
    if is_causal:
        distance = (-distance).clamp_min(0)
    else:
        count //= 2
        first = (distance > 0).long() * count
        distance = distance.abs()
    exact = count // 2
    growth = torch.log(distance.clamp_min(1).float() / exact) / math.log(MAX_DISTANCE / exact)
    far = (exact + (growth * (count - exact)).long()).clamp_max(count - 1)
    return first + torch.where(distance < exact, distance, far)
