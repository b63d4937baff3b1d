"""Nearest neighbors of vectors, and their projection to two dimensions."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def nearest_neighbors(table_vd: Tensor, ids_n: Tensor, count: int) -> list[list[tuple[int, float]]]:
    """Return the ids with the most similar vectors and their cosine, without the id itself."""
    unit = F.normalize(table_vd.double(), dim=-1)
    similarity = unit[ids_n] @ unit.T
    similarity[torch.arange(len(ids_n)), ids_n] = -torch.inf
    count = min(count, len(table_vd) - 1)
    values, indices = similarity.topk(count, dim=1)
    return [
        list(zip(own.tolist(), scores.tolist(), strict=True))
        for own, scores in zip(indices, values, strict=True)
    ]


def project(vectors_nd: Tensor) -> Tensor:
    """Return the first two principal components of vectors, float64[n, 2].

    The sign of a component is that which makes its largest value positive.
    """
    centered = vectors_nd.double() - vectors_nd.double().mean(0)
    _, _, directions = torch.linalg.svd(centered, full_matrices=False)
    points: Tensor = centered @ directions[:2].T
    if points.shape[1] < 2:
        points = F.pad(points, (0, 2 - points.shape[1]))
    largest = points.gather(0, points.abs().argmax(0, keepdim=True))
    signed: Tensor = points * torch.where(largest < 0, -1.0, 1.0)
    return signed
