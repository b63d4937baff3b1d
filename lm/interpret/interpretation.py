"""What a report shows of a model: one short text explained, small enough for the statistics of a data set."""

from typing import Any

import numpy as np
from torch import Tensor

from lm.interpret.explain import TextExplanation, explain_tokens
from lm.interpret.packed_maps import pack_map
from lm.interpret.released import ReleasedModel

MAX_TOKENS = 20  # of the text
MAX_NEW_TOKENS = 4  # that a model writes
MAX_STEPS = 200
MAX_MAPS = 32  # attention maps; of a deeper model those of layers at equal distances
NEIGHBORS = 4
DIGITS = 3


def interpret_model(released: ReleasedModel, tokens_t: Tensor) -> dict[str, Any] | None:
    """Explain a text; ``None`` if nothing of it is read.

    Args:
        released: the model.
        tokens_t: int64[T], what it reads, at most ``MAX_TOKENS``.

    Returns:
        JSON values: ``hf_class``, ``score`` (what attributions are of), ``tokens``, ``attributions``, ``neighbors`` and
        ``points`` as in ``TextExplanation``, and ``maps``, ``rollout``: attention as ``pack_map`` writes it, or
        ``None``; ``layers``: the number, from 1, of each layer of ``maps``.
    """
    if not len(tokens_t):
        return None
    explanation = explain_tokens(
        released, "", [""], [tokens_t], max_new_tokens=MAX_NEW_TOKENS, max_steps=MAX_STEPS
    )
    (own,) = explanation.texts
    return {
        "hf_class": explanation.hf_class,
        "score": explanation.score,
        "tokens": own.tokens,
        "attributions": [
            {
                "target": item.target,
                "probability": round(item.probability, DIGITS),
                "scores": [round(value, DIGITS) for value in item.scores],
            }
            for item in own.attributions
        ],
        "neighbors": [
            [[name, round(cosine, DIGITS)] for name, cosine in row[:NEIGHBORS]]
            for row in own.neighbors
        ],
        "points": [[round(x, DIGITS), round(y, DIGITS)] for x, y in own.points],
        **_pack_attention(own),
    }


def _pack_attention(own: TextExplanation) -> dict[str, Any]:
    if own.attention is None or own.rollout is None:
        return {"maps": None, "layers": None, "rollout": None}
    heads = min(len(own.attention[0]), MAX_MAPS)
    count = min(len(own.attention), max(1, MAX_MAPS // heads))
    layers = np.linspace(0, len(own.attention) - 1, count).round().astype(int).tolist()
    return {
        "maps": [[pack_map(head) for head in own.attention[layer][:heads]] for layer in layers],
        "layers": [layer + 1 for layer in layers],
        "rollout": pack_map(own.rollout),
    }
