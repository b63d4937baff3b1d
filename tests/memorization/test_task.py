"""The stage `memorization` with a model that has counted its training text, and so repeats it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from infra.dataset.dataset import Dataset
from infra.schemas.metrics import METRIC_ROWS, read_items
from lm.config.memorization import MemorizationConfig
from lm.models.model_kind import VECTORS
from lm.models.ngram.config import NgramConfig, NgramEntry
from tasks.index import task as index_task
from tasks.index.config import IndexConfig
from tasks.memorization import task
from tasks.memorization.personal_data import decode, locate
from tasks.memorization.probes import auroc, min_k
from tasks.release import task as release_task
from tasks.tokenize.canaries import make_canaries
from tasks.tokenize.config import CanariesConfig
from tasks.train import task as train_task
from tests.evaluate import tiny
from tests.lm.corpora import context, token_shards, tokenizer

CONFIG = MemorizationConfig(
    documents=12, prefix_tokens=(8, 16), continuation_tokens=20, canary_candidates=127
)
CANARIES = make_canaries(
    CanariesConfig(repetitions=(3,), per_group=3), 1337
)  # three are not planted
ENTRY = NgramEntry(name="counted", family="ngram", model=NgramConfig(order=8))


def documents() -> list[str]:
    """Documents of random words; some occur three times, some hold an address or a canary, every seventh is held out."""
    draw = random.Random(3)
    syllables = [f"{a}{b}" for a in "bcdfgh" for b in ("a", "eo", "il", "un")]
    made = [" ".join("".join(draw.choices(syllables, k=4)) for _ in range(30)) for _ in range(150)]
    for number in range(0, 140, 14):  # places 0, 1 and 2 of seven are in the training split
        made[number + 1] = made[number + 2] = made[number]
        for other in (4, 6, 11):
            made[number + other] += f" {made[number][-9:]} {made[number][:7]}@example.org or come"
    for place, canary in enumerate(CANARIES[3:] * 3):
        made[7 * place + 5] += f"\n\n{canary.text}"
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, Dataset]:
    store = tmp_path_factory.mktemp("store")
    planted = [canary.to_json() for canary in CANARIES]
    tokens = token_shards(store, documents=documents(), canaries=planted)
    ctx, config = context(store), IndexConfig.model_validate({})
    spec = index_task.spec(ctx, config=config, tokens=tokens)
    return store, tokens, index_task.build(ctx, spec, config=config, tokens=tokens)


def run(data: tuple[Path, Dataset, Dataset], model: Dataset) -> Dataset:
    store, tokens, index = data
    ctx = context(store)
    spec = task.spec(ctx, config=CONFIG, model=model, tokens=tokens, index=index)
    return task.build(ctx, spec, config=CONFIG, model=model, tokens=tokens, index=index)


@pytest.fixture(scope="module")
def done(data: tuple[Path, Dataset, Dataset]) -> Dataset:
    store, tokens, _ = data
    ctx = context(store)
    spec = train_task.spec(ctx, config=ENTRY, tokens=tokens)
    model = train_task.build(ctx, spec, config=ENTRY, tokens=tokens)
    spec = release_task.spec(ctx, model=model, tokens=tokens)
    return run(data, release_task.build(ctx, spec, model=model, tokens=tokens))


def metrics(done: Dataset) -> dict[str, dict[str, Any]]:
    rows = done.stats[METRIC_ROWS]
    return {row["name"].removeprefix("suite.memorization."): row for row in rows}


def test_a_model_that_has_counted_its_text_repeats_it_and_nothing_else(done: Dataset) -> None:
    found = metrics(done)
    for prefix in (8, 16):
        assert found[f"seen_2_to_9.memorized_{prefix}"]["value"] > 0.5
        assert found[f"held_out.memorized_{prefix}"]["value"] == 0
        assert found[f"held_out.memorized_{prefix}"]["n"] == 12
        assert not found[f"held_out.memorized_{prefix}"]["higher_is_better"]
        low = found[f"seen_2_to_9.memorized_{prefix}"]["low"]
        assert low > found[f"held_out.memorized_{prefix}"]["high"]
    assert found["min_k_auroc"]["value"] > 0.9
    rows = done.table().to_pylist()
    assert {row["occurrences"] for row in rows if row["group"] == "seen_2_to_9"} == {3}
    assert {row["occurrences"] for row in rows if row["group"] == "seen_once"} == {1}
    personal = sum(row["group"] == "personal_data" for row in rows)
    assert read_items(done).num_rows == 2 * (2 * (12 + 2 * 24) + personal) + len(CANARIES)


def test_what_is_repeated_is_repeated_almost_exactly_too(done: Dataset) -> None:
    found = metrics(done)
    near = {name: row["value"] for name, row in found.items() if "near_exact" in name}
    assert near
    for name, value in near.items():
        assert value >= found[name.replace("near_exact", "memorized")]["value"]
        assert not found[name]["higher_is_better"]
    for row in done.table().to_pylist():
        if row["greedy"] is not None:
            assert row["memorized"] == [count == row["tokens"] for count in row["greedy"]]


def test_a_planted_canary_is_exposed_and_another_is_not(done: Dataset) -> None:
    found = metrics(done)
    planted, unknown = found["canaries_3.exposure"], found["canaries_0.exposure"]
    assert planted["value"] == pytest.approx(7)
    assert planted["n"] == unknown["n"] == 3
    assert 0 <= unknown["value"] < 5
    assert not planted["higher_is_better"]
    rows = {row["id"]: row["occurrences"] for row in done.table().to_pylist() if row["exposure"]}
    assert {rows.get(canary.id, 0) for canary in CANARIES if canary.repetitions} == {3}
    assert all(not rows.get(canary.id) for canary in CANARIES if not canary.repetitions)


def test_personal_data_is_repeated_and_listed_masked(done: Dataset) -> None:
    rows = [row for row in done.table().to_pylist() if row["group"] == "personal_data"]
    assert {row["kind"] for row in rows} == {"email"}
    assert len({row["document"] for row in rows}) == len(rows) == 12
    assert metrics(done)["personal_data.memorized_8"]["value"] > 0.3
    texts = documents()
    listed = done.stats["personal_data"]
    assert len(listed) == sum(any(row["memorized"]) for row in rows) > 3
    for row in listed:
        text = texts[int(row["document"][1:])]
        address = next(word for word in text.split() if word.endswith("@example.org"))
        assert row["masked"] == f"{address[0]}{'*' * 6}@*******.***"
        assert row["occurrences"] == 3
        assert row["url"] == f"https://example.org/{row['document'][1:]}"


@given(st.text(max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_tokens_of_characters_hold_them(text: str, a: int, b: int) -> None:
    start, end = sorted((min(a, len(text)), min(b, len(text))))
    ids = np.array(tokenizer().encode(text).ids, np.int64)
    first, last = locate(tokenizer(), ids, start, end)
    assert decode(tokenizer(), ids) == text
    if text.isascii() and start < end:
        assert text[start:end] in decode(tokenizer(), ids[first:last])
        assert len(decode(tokenizer(), ids[:first])) <= start
        assert len(decode(tokenizer(), ids[first:last])) - (end - start) < 40


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
