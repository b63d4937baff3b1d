"""Compute the metrics of the evaluation table from nats per document."""

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from infra.schemas.metrics import HELD_OUT

MODEL = "model"
BASELINES = ("unigram", "trigram")


def compute_metrics(scores: pa.Table) -> dict[str, Any]:
    """Return the metrics overall, and under ``by_source`` and ``by_language``.

    With N = total -ln p over all scored tokens: ``bits_per_byte`` = N / ln 2 / bytes of text,
    ``perplexity`` = exp(N / tokens), ``byte_perplexity`` = exp(N / bytes). Bits per byte can be
    compared between vocabularies, perplexity per token cannot.

    A masked language model has others instead, of the tokens that were masked one at a time
    (Salazar et al. 2020), with M = total -ln p over them: ``masked_tokens``, ``pseudo_nats_per_token``
    = M / masked tokens, ``pseudo_perplexity`` = exp(M / masked tokens), and
    ``pseudo_bits_per_byte``, M / masked tokens in bits times the scored tokens per byte.

    Args:
        scores: one row per scored document: ``source``, ``language``, ``tokens``, ``bytes``, and
            ``<scorer>_nats`` for the model and each baseline; of a masked language model
            ``masked_tokens`` and ``masked_nats``, and no ``model_nats``.
    """
    result = _compute_group(scores)
    for key in ("source", "language"):
        values = scores[key].to_pylist()
        names = sorted({value or "unknown" for value in values})
        result[f"by_{key}"] = {
            name: _compute_group(scores.filter([(value or "unknown") == name for value in values]))
            for name in names
        }
    return result


def document_items(scores: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield rows of ``infra.schemas.metrics.ITEMS``: each scored document is an item.

    Their weighted means are ``bits_per_byte`` and ``pseudo_nats_per_token`` of ``compute_metrics``.
    """
    for row in scores.to_pylist():
        common = {"suite": HELD_OUT, "item": row["id"], "cluster": row["id"]}
        if row["model_nats"] is not None and row["bytes"]:
            value = row["model_nats"] / math.log(2) / row["bytes"]
            yield {**common, "metric": "bits_per_byte", "value": value, "weight": row["bytes"]}
        elif row["masked_tokens"]:
            value, weight = row["masked_nats"] / row["masked_tokens"], row["masked_tokens"]
            yield {**common, "metric": "pseudo_nats_per_token", "value": value, "weight": weight}


def _compute_group(scores: pa.Table) -> dict[str, Any]:
    tokens, size = sum(scores["tokens"].to_pylist()), sum(scores["bytes"].to_pylist())

    def rates(scorer: str) -> dict[str, float | None]:
        # fsum: the sum must not depend on the order of documents.
        nats = math.fsum(scores[f"{scorer}_nats"].to_pylist())
        return {
            "bits_per_byte": round(nats / math.log(2) / size, 6) if size else None,
            "perplexity": _perplexity(nats, tokens),
            "byte_perplexity": _perplexity(nats, size),
            "nats_per_token": round(nats / tokens, 6) if tokens else None,
        }

    is_masked = scores.num_rows > 0 and scores["model_nats"].null_count == scores.num_rows
    return {
        "documents": scores.num_rows,
        "tokens": tokens,
        "bytes": size,
        **(_masked_rates(scores, tokens, size) if is_masked else rates(MODEL)),
        "baselines": {name: rates(name) for name in BASELINES},
    }


def _masked_rates(scores: pa.Table, tokens: int, size: int) -> dict[str, float | None]:
    masked = sum(scores["masked_tokens"].to_pylist())
    nats = math.fsum(scores["masked_nats"].to_pylist())
    per_byte = nats / masked * tokens / math.log(2) / size if masked and size else None
    return {
        "masked_tokens": masked,
        "pseudo_nats_per_token": round(nats / masked, 6) if masked else None,
        "pseudo_perplexity": _perplexity(nats, masked),
        "pseudo_bits_per_byte": None if per_byte is None else round(per_byte, 6),
    }


def _perplexity(nats: float, units: int) -> float | None:
    # A diverged model's perplexity can exceed a float's range; JSON has no infinity.
    return round(math.exp(nats / units), 4) if units and nats / units < 700 else None
