"""The stage `memorization` with a model that has counted its training text, and so repeats it."""

import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from infra.dataset.dataset import Dataset
from infra.schemas.metrics import METRIC_ROWS, read_items
from lm.config.memorization import MemorizationConfig
from lm.models.model_kind import VECTORS
from lm.models.ngram.config import NgramConfig, NgramEntry
from tasks.index import task as index_task
from tasks.index.config import IndexConfig
from tasks.memorization import task
from tasks.memorization.probes import auroc, min_k
from tasks.release import task as release_task
from tasks.train import task as train_task
from tests.evaluate import tiny
from tests.lm.corpora import context, token_shards

CONFIG = MemorizationConfig(documents=12, prefix_tokens=(8, 16), continuation_tokens=20)
ENTRY = NgramEntry(name="counted", family="ngram", model=NgramConfig(order=8))


def documents() -> list[str]:
    """Documents of random words; some occur three times, every seventh is held out."""
    draw = random.Random(3)
    syllables = [f"{a}{b}" for a in "bcdfgh" for b in ("a", "eo", "il", "un")]
    made = [" ".join("".join(draw.choices(syllables, k=4)) for _ in range(30)) for _ in range(150)]
    for number in range(0, 140, 14):  # places 0, 1 and 2 of seven are in the training split
        made[number + 1] = made[number + 2] = made[number]
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, Dataset]:
    store = tmp_path_factory.mktemp("store")
    tokens = token_shards(store, documents=documents())
    ctx, config = context(store), IndexConfig.model_validate({})
    spec = index_task.spec(ctx, config=config, tokens=tokens)
    return store, tokens, index_task.build(ctx, spec, config=config, tokens=tokens)


def run(data: tuple[Path, Dataset, Dataset], model: Dataset) -> Dataset:
    store, tokens, index = data
    ctx = context(store)
    spec = task.spec(ctx, config=CONFIG, model=model, tokens=tokens, index=index)
    return task.build(ctx, spec, config=CONFIG, model=model, tokens=tokens, index=index)


def test_a_model_that_has_counted_its_text_repeats_it_and_nothing_else(
    data: tuple[Path, Dataset, Dataset],
) -> None:
    store, tokens, _ = data
    ctx = context(store)
    spec = train_task.spec(ctx, config=ENTRY, tokens=tokens)
    model = train_task.build(ctx, spec, config=ENTRY, tokens=tokens)
    spec = release_task.spec(ctx, model=model, tokens=tokens)
    done = run(data, release_task.build(ctx, spec, model=model, tokens=tokens))
    found = {
        row["name"].removeprefix("suite.memorization."): row for row in done.stats[METRIC_ROWS]
    }
    for prefix in (8, 16):
        assert found[f"seen_2_to_9.memorized_{prefix}"]["value"] > 0.6
        assert found[f"held_out.memorized_{prefix}"]["value"] == 0
        assert found[f"held_out.memorized_{prefix}"]["n"] == 12
        assert not found[f"held_out.memorized_{prefix}"]["higher_is_better"]
        low = found[f"seen_2_to_9.memorized_{prefix}"]["low"]
        assert low > found[f"held_out.memorized_{prefix}"]["high"]
    assert found["min_k_auroc"]["value"] > 0.9
    rows = done.table().to_pylist()
    assert {row["occurrences"] for row in rows if row["group"] == "seen_2_to_9"} == {3}
    assert {row["occurrences"] for row in rows if row["group"] == "seen_once"} == {1}
    assert read_items(done).num_rows == 2 * (12 + 2 * 24)


def test_a_model_without_probabilities_is_skipped_with_a_reason(
    data: tuple[Path, Dataset, Dataset], tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path / "tiny", 300)
    done = run(data, tiny.release(context(data[0]), folder, "vectors", VECTORS))
    assert done.counts.kept == 0
    assert set(done.counts.dropped) == {"no_probability"}
    assert done.stats[METRIC_ROWS] == []


def test_membership_is_the_area_under_the_curve() -> None:
    draw = np.random.default_rng(4)
    members, others = draw.normal(1, 1, 60).round(1), draw.normal(2, 1, 80).round(1)
    labels = np.concatenate([np.ones(60), np.zeros(80)])
    expected = roc_auc_score(labels, -np.concatenate([members, others]))
    assert auroc(members.tolist(), others.tolist()) == pytest.approx(expected)
    assert auroc([], [1.0]) is None


def test_min_k_is_the_mean_of_the_least_probable_tokens() -> None:
    assert min_k([1.0, 9.0, 2.0, 7.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]) == 8.0
    assert min_k([3.0, 1.0]) == 3.0
