import math

import pyarrow as pa
import pytest

from tasks.evaluate.metrics import compute_metrics

SCORES = pa.table(
    {
        "source": ["site", "site", "books"],
        "language": ["en", None, "en"],
        "tokens": [10, 20, 30],
        "bytes": [40, 80, 100],
        "model_nats": [20.0, 50.0, 60.0],
        "unigram_nats": [70.0, 140.0, 210.0],
        "trigram_nats": [40.0, 80.0, 120.0],
    }
)


def test_figures_overall() -> None:
    found = compute_metrics(SCORES)
    assert (found["documents"], found["tokens"], found["bytes"]) == (3, 60, 220)
    assert found["bits_per_byte"] == pytest.approx(130 / math.log(2) / 220, abs=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(130 / 60), abs=1e-4)
    assert found["byte_perplexity"] == pytest.approx(2 ** found["bits_per_byte"], abs=1e-4)
    assert found["baselines"]["unigram"]["perplexity"] == pytest.approx(math.exp(7), abs=1e-4)
    assert found["baselines"]["trigram"]["nats_per_token"] == 4.0


def test_figures_by_source_and_language() -> None:
    found = compute_metrics(SCORES)
    assert list(found["by_source"]) == ["books", "site"]
    assert list(found["by_language"]) == ["en", "unknown"]
    assert found["by_source"]["books"]["perplexity"] == pytest.approx(math.exp(2), abs=1e-4)
    assert found["by_language"]["unknown"]["bytes"] == 80
    total = sum(group["tokens"] for group in found["by_source"].values())
    assert total == found["tokens"]


def test_nothing_scored_and_a_diverged_model_have_no_figure() -> None:
    assert compute_metrics(SCORES.slice(0, 0))["bits_per_byte"] is None
    worst = SCORES.set_column(4, "model_nats", pa.array([1e6, 1e6, 1e6]))
    assert compute_metrics(worst)["perplexity"] is None
    assert compute_metrics(worst)["bits_per_byte"] > 1_000
