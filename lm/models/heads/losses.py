"""The losses of the heads, summed over the counted targets, in nats; letters as in ``lm.models.heads.model``."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lm.models.heads.config import HeadConfig


def classification_loss(
    logits: Tensor, targets: Tensor, head: HeadConfig, label_smoothing: float
) -> Tensor:
    """Return the summed cross-entropy, of texts or of words.

    A loss is multiplied by its label's weight. It is not divided by the sum of the weights, as
    ``nn.CrossEntropyLoss`` does in its mean: that sum differs from batch to batch.

    Args:
        logits: float[..., L].
        targets: int64 labels, as many as there are rows of logits; with several labels per text int64[B, L].
        head: number and weights of the labels.
        label_smoothing: fraction of the target that is spread evenly over the labels.
    """
    logits = logits.float()
    weight = torch.tensor(head.class_weights, device=logits.device) if head.class_weights else None
    if head.multi_label:
        wanted = targets.clamp_min(0) * (1 - label_smoothing) + label_smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        losses = losses if weight is None else losses * weight
        return (losses * (targets >= 0)).sum()
    return F.cross_entropy(
        logits.flatten(0, -2),
        targets.flatten(),
        weight,
        ignore_index=-1,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def span_loss(logits_bt2: Tensor, targets_b2: Tensor, is_text_bt: Tensor) -> Tensor:
    """Return the summed cross-entropy of the start and of the end over all positions of a text.

    Devlin et al. 2019, section 4.2.
    """
    scores = logits_bt2.float().masked_fill(~is_text_bt.unsqueeze(-1), -torch.inf)
    return F.cross_entropy(scores, targets_b2, ignore_index=-1, reduction="sum")


def contrastive_loss(
    vectors_bgd: Tensor, targets_b1: Tensor, tokens_bt: Tensor, temperature: float
) -> Tensor:
    """Return the summed cross-entropy of each query's positive among all texts of the batch.

    The other queries' positives and all negatives are negatives (Henderson et al. 2017,
    arXiv:1705.00652; van den Oord et al. 2018, arXiv:1807.03748). A text that equals the query's own
    positive is left out: it answers the query, too. A negative that equals its own example's positive is
    left out for all queries: it stands for one that the example does not have.

    Args:
        vectors_bgd: of length 1: an example's query, positive and negatives.
        targets_b1: below zero: the example's query is not counted.
        tokens_bt: int64[B, G T], the ids that the vectors were made of.
        temperature: by which similarities are divided.
    """
    batch, groups, size = vectors_bgd.shape
    texts = vectors_bgd[:, 1:].reshape(batch * (groups - 1), size)
    scores = vectors_bgd[:, 0] @ texts.T / temperature
    ids = tokens_bt.view(batch, groups, -1)[:, 1:]
    own = torch.arange(batch, device=scores.device) * (groups - 1)
    equal = (ids[:, :1].flatten(1)[:, None] == ids.flatten(0, 1)[None]).all(-1)
    equal[torch.arange(batch, device=scores.device), own] = False
    is_missing = (ids == ids[:, :1]).all(-1)
    is_missing[:, 0] = False
    scores = scores.masked_fill(equal | is_missing.flatten(), -torch.inf)
    wanted = torch.where(targets_b1[:, 0] >= 0, own, -1)
    return F.cross_entropy(scores, wanted, ignore_index=-1, reduction="sum")
