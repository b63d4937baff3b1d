"""Metrics of what a model expects: perplexity of the targets, and bits per byte."""

import math
from collections.abc import Sequence

import numpy as np

from infra.compute.arrays import F64
from infra.statistics.bootstrap import ExampleStats, divide, ratio_of


def likelihood_stats(
    nats: Sequence[float], tokens: Sequence[int], num_bytes: Sequence[int]
) -> dict[str, ExampleStats]:
    """Return ``perplexity`` per token and ``bits_per_byte``, both of the targets alone.

    Perplexities of models with different tokenizers cannot be compared, bits per byte can.

    Args:
        nats: -ln p of the targets of n examples, such as the assistant's messages.
        tokens: the number of tokens of each target.
        num_bytes: its bytes in UTF-8.
    """
    total = np.array(nats, np.float64)
    bits = ratio_of(total / math.log(2), np.array(num_bytes, np.float64))
    per_token = np.stack([total, np.array(tokens, np.float64)], axis=1)
    return {"perplexity": ExampleStats(per_token, _perplexity), "bits_per_byte": bits}


def _perplexity(sums: F64) -> F64:
    # A diverged model's perplexity can exceed a float's range.
    nats = divide(sums[..., 0], sums[..., 1])
    return np.exp(np.where(nats < 700, nats, np.nan))
